"""``mtmsa audit``: find errors in a dataset and its split, as an HTML page, JSON and an exit status."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mtmsa_lightning.cli.arguments import (
    Parser,
    add_allow_classes,
    add_boolean,
    add_search,
    number_from,
    whole_number_from,
)
from mtmsa_lightning.cli.data_arguments import add_data_arguments, data_arguments
from mtmsa_lightning.data.audit.findings import kinds_as_text
from mtmsa_lightning.settings.configs import find_config
from mtmsa_lightning.settings.defaults import MIN_SHARPNESS, MIN_SIDE, NEAR
from mtmsa_lightning.training.build_data import build_data

DESCRIPTION = """\
Find what makes results wrong: duplicates and subjects on both sides of a split, contradicting labels,
bad images. Works on a raw release and on a prepared set. Without --data, the dataset is
recognised by its files."""
PAGE, RECORD = "audit.html", "audit.json"


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa audit",
        description=DESCRIPTION,
        epilog=f"Exit status: 0 no error, 1 errors, 2 the audit could not run. Kinds:\n{kinds_as_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add_allow_classes(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help=f"folder for {PAGE} and {RECORD}")
    add_boolean(parser, "--faces", "show photos in the page", default=True)
    add_boolean(parser, "--read_images", "read the images, not only the table and the split", default=True)
    add_boolean(parser, "--detect", "look for an upright face in every image; needs the extra align")
    add_search(parser)
    near = "greatest distance of near-duplicates, of 256 bits"
    add("--near", type=whole_number_from(0), default=NEAR, help=near)
    side = "least side of an image in pixels"
    add("--min_side", type=whole_number_from(0), default=MIN_SIDE, help=side)
    sharpness = "least variance of the Laplacian at 128 px"
    add("--min_sharpness", type=number_from(0), default=MIN_SHARPNESS, help=sharpness)
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command; exit with status 1 if there is a finding of severity error."""
    options, others = parser().parse_known_args(args)
    for name in options.config:
        find_config(name)
    data = build_data(data_arguments(options, others, recognised=True, required=True))

    from mtmsa_lightning._utils.atomic_write import replacing_in
    from mtmsa_lightning._utils.folders import locked
    from mtmsa_lightning.align.detector import load_detector
    from mtmsa_lightning.data.audit.audit import Thresholds, audit, audit_sources, read
    from mtmsa_lightning.data.audit.findings import has_errors
    from mtmsa_lightning.data.mixture.datamodule import Mixture
    from mtmsa_lightning.reports.audit import summary, write_json, write_page

    thresholds = Thresholds(options.near, options.min_side, options.min_sharpness)
    search = partial(load_detector, options.smallest_face, options.orientation, crowds=False)
    detect = search() if options.detect else None
    read(data)  # raises before a folder is made
    with locked(options.out, "mtmsa audit"):
        audits = {options.out: audit(data, thresholds, look=options.read_images, detect=detect)}
        if isinstance(data, Mixture):
            (joined,) = audits.values()
            audits |= {options.out / each.source: each for each in audit_sources(data, joined)}
        for folder, found in audits.items():
            folder.mkdir(exist_ok=True)
            with replacing_in(folder, (RECORD, PAGE)) as fresh:
                write_json(found, fresh / RECORD)
                write_page(found, fresh / PAGE, pictures=options.faces)
    for folder, found in audits.items():
        print(f"{summary(found)}\n{folder / PAGE}")
    if any(has_errors(found.findings) for found in audits.values()):
        raise SystemExit(1)
