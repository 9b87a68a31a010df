"""``mtmsa audit``: what is wrong with a dataset and its split, as one HTML page, JSON and an exit status."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.cli.arguments import Parser, real_number, whole_number_from
from mtmsa_lightning.cli.data_arguments import add_data_arguments, data_arguments, parse
from mtmsa_lightning.data.audit.findings import kinds_as_text
from mtmsa_lightning.settings.configs import find_config
from mtmsa_lightning.training.build_data import build_data

DESCRIPTION = """\
Look for what makes results wrong: duplicates and subjects on both sides of a split, labels that contradict
each other, images of no use. Works on a raw release and on a prepared set. Other settings of the dataset are
given as --data.NAME VALUE."""
PAGE, RECORD = "audit.html", "audit.json"


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa audit",
        description=DESCRIPTION,
        epilog=f"Exit status: 0 no error, 1 errors, 2 no audit could be made. Kinds:\n{kinds_as_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help=f"folder for {PAGE} and {RECORD}")
    add("--no_pictures", action="store_true", help="keep faces out of the page")
    add("--no_images", action="store_true", help="look at the table and the split only")
    add("--detect", action="store_true", help="look for a face in every image (needs the extra align)")
    add(
        "--near",
        type=whole_number_from(0),
        help="greatest distance of near-duplicates, of 256 bits (default: 31)",
    )
    add("--min_side", type=whole_number_from(0), help="least side of an image in pixels (default: 64)")
    add("--min_sharpness", type=real_number, help="least variance of the Laplacian at 128 px (default: 10)")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: For whatever the user can mend.
        SystemExit: With status 1 if there is a finding of severity error.
    """
    options, others = parse(parser(), args)
    for name in options.config:
        find_config(name)
    arguments = data_arguments(options, others)
    data = build_data(arguments, options.config)

    from mtmsa_lightning._utils.folders import locked
    from mtmsa_lightning._utils.writing import replacing_in
    from mtmsa_lightning.align.detector import load_detector
    from mtmsa_lightning.data.audit.audit import Thresholds, audit, read
    from mtmsa_lightning.data.audit.findings import has_errors
    from mtmsa_lightning.reports.audit import summary, write_json, write_page

    given = {name: getattr(options, name) for name in ("near", "min_side", "min_sharpness")}
    thresholds = Thresholds(**{name: value for name, value in given.items() if value is not None})
    detect = load_detector() if options.detect else None
    read(data)  # mistakes in what is asked for leave no folder behind
    with locked(options.out, "mtmsa audit"):
        found = audit(data, thresholds, look=not options.no_images, detect=detect)
        with replacing_in(options.out, (RECORD, PAGE)) as fresh:
            write_json(found, fresh / RECORD)
            write_page(found, fresh / PAGE, pictures=not options.no_pictures)
    print(f"{summary(found)}\n{options.out / PAGE}")
    if has_errors(found.findings):
        raise SystemExit(1)
