"""``mtmsa predict``: predict ages, genders and races of the faces in photos."""

import argparse
import csv
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.folders import check_folder
from mtmsa_lightning._utils.opencv_limit import MAX_PIXELS
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.cli.arguments import (
    Parser,
    add_boolean,
    add_network,
    add_search,
    add_several,
    find_networks,
    parse_shard,
    split_networks,
    whole_number_from,
)
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.inference.paths import check_there
from mtmsa_lightning.runs.starter import STARTER
from mtmsa_lightning.settings.class_paths import allowed
from mtmsa_lightning.settings.defaults import PREDICT_BATCH_SIZE, SHEET_FACES

if TYPE_CHECKING:
    from mtmsa_lightning._utils.progress import Advance
    from mtmsa_lightning.inference.bulk import Job
    from mtmsa_lightning.inference.prediction_parts import Counts, Parts

    Work = Callable[[Sequence[int], Advance], None]

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".parquet", ".jsonl")
"""Endings of the tables that can be written."""

_SHOWN = 10

EPILOG = """
`<name>.skipped.csv` (images without a row and the reason; only if there are any) and `<name>.record.json`
(checkpoint, options, counts) are written beside FILE. Parts are kept in the folder `FILE.parts` until the
table is complete: after an interruption the same command continues and writes the same bytes.

Ages have 2 decimals and probabilities 4 in .csv files; .parquet and .jsonl files have all digits.

Exit status: 0 the table is written, even if images were skipped (--strict true: 2), 2 an error or no face.

On several machines: give each a shard of the images and its own folder as --out; then join them.
  mtmsa predict --ckpt_path C photos/ --shard 2/8 --out shards/2
  mtmsa predict merge shards/* --out ages.csv
"""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa predict",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Predict age (with its uncertainty), gender and race of every face in photos.\n"
        "Preprocessing and classes are read from the checkpoint: no config is needed.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="image, folder of images, pattern ('photos/**/*.jpg'), "
        "prepared set, or .csv/.tsv file with a column `path` (relative to the file's folder)")  # fmt: skip
    add_network(parser)
    add_several(parser)
    add("--out", type=Path, metavar="FILE", help="table to write, one row per face: .csv, .parquet or .jsonl "
        "(default: none, a line per face is printed)")  # fmt: skip
    add_boolean(parser, "--overwrite", "replace a table that was made with other options")
    add_boolean(parser, "--strict", "end with status 2 if an image could not be read")
    add_boolean(parser, "--detect", "find and align all faces of a photo; false: a photo is one cropped face",
                None, "as in training")  # fmt: skip
    add_search(parser)
    add("--max_pixels", type=whole_number_from(1), default=MAX_PIXELS, metavar="N",
        help="skip photos with more pixels, except for JPEG files of up to 4 N, which are read at half their "
        "sides; a pixel takes 3 bytes, in each of --num_workers; for more than the default, also set "
        "OPENCV_IO_MAX_IMAGE_PIXELS")  # fmt: skip
    add("--annotate", type=Path, metavar="DIR", help="write copies of the photos with a box and a caption "
        "per face (default: none, since they show people)")  # fmt: skip
    add("--contact_sheet", type=Path, metavar="FILE", help="write one image (.jpg, .png) with up to "
        f"{SHEET_FACES} of the faces (default: none)")  # fmt: skip
    add("--batch_size", type=whole_number_from(1), default=PREDICT_BATCH_SIZE, help="faces per batch")
    add("--num_workers", type=whole_number_from(1),
        help="threads that read photos and find faces (default: one per core)")  # fmt: skip
    add("--accelerator", default="auto", help="auto, cpu or gpu")
    add("--devices", default="1", help="number of devices, with one process each, or auto")
    add("--precision", default="32-true", help="32-true, 64-true, bf16-mixed or 16-mixed")
    add_boolean(parser, "--flip_test", "average over each face and its mirror image; takes twice the time")
    add("--shard", default="1/1", metavar="I/N", help="predict shard I of N only")
    return parser


def merge_parser() -> argparse.ArgumentParser:
    """Return the argument parser of ``mtmsa predict merge``."""
    parser = Parser(
        prog="mtmsa predict merge",
        description="Join the shards of a prediction, with the same bytes as from one process.",
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="DIR", help="folders made with --shard")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="table to write")
    add_boolean(parser, "--overwrite", "replace an existing table")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command; that no face could be predicted is an error after everything else was written."""
    if args and args[0] == "merge":
        options = merge_parser().parse_args(args[1:])
        _check_table(options.out)
        from mtmsa_lightning.inference.prediction_parts import merge

        report(merge(options.shards, options.out, options.overwrite), options.out)
        return
    options = parser().parse_args(args)
    networks, paths = split_networks(options.ckpt_path)
    options.ckpt_path, options.paths = networks or None, [*options.paths, *paths]
    if not options.paths:
        raise ConfigError("give paths of images: `mtmsa predict --help` lists the options")
    if options.out is None:
        print_faces(options)
    elif counts := predict(options):
        report(counts, options.out, options.strict)


def print_faces(options: argparse.Namespace) -> None:
    """Predict all images and print one line per face and per skipped image; errors as for a table."""
    from mtmsa_lightning.inference.prediction_parts import SKIPPED, beside

    if parse_shard(options.shard)[1] > 1:
        raise ConfigError("--shard needs --out, the folder of the shard")
    with TemporaryDirectory(prefix="mtmsa-predict-") as folder:
        options.out = Path(folder) / "faces.jsonl"  # with all digits
        counts = predict(options)
        assert counts is not None
        rows = [from_json(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
        skipped = _read_rows(beside(options.out, SKIPPED))
    faces = Counter(row["file"] for row in rows)
    for row in rows:
        number = f", face {row['face'] + 1}" if faces[row["file"]] > 1 else ""
        print(f"{row['file']}{number}: {_describe_face(row)}")
    for row in skipped:
        print(f"{row['file']}: {row['reason']}")
    _check_counts(counts, options.strict, "listed above")


def _describe_face(row: dict[str, Any]) -> str:
    """Describe the predictions of a row of a table in one line."""
    parts = []
    if "age_mean" in row:
        unsure = ", unsure" if row.get("unsure") else ""
        interval = f"90 % interval {row['age_low90']:.1f} to {row['age_high90']:.1f}{unsure}"
        parts.append(f"{row['age_mean']:.1f} years ({interval})")
    parts += [f"photo turned by {row['turned']} degrees"] if row["turned"] else []
    over = (name for name in row if name.startswith("over_"))
    parts += [f"{name.removeprefix('over_')} or older: {row[name]}" for name in over]
    parts += [f"{row[task]} ({row[f'{task}_{row[task]}']:.2f})" for task in ("gender", "race") if task in row]
    return ", ".join(parts)


def predict(options: argparse.Namespace) -> "Counts | None":
    """Predict all images, or a shard of them, write the files, and return the counts of a whole table."""
    shard = parse_shard(options.shard)
    _check_places(options, shard)
    networks = options.ckpt_path or [None]
    found = find_networks(networks)
    checkpoint = found[0] if len(found) == 1 else found
    for path in options.paths:
        check_there(path)
    from mtmsa_lightning.inference.inputs import find_inputs

    inputs = find_inputs(options.paths)  # before torch is imported
    from mtmsa_lightning._utils.folders import locked
    from mtmsa_lightning.inference.bulk import Job, load_estimator, predict_parts
    from mtmsa_lightning.inference.prediction_parts import Parts
    from mtmsa_lightning.inference.prediction_plan import make_plan, warn_preprocessing
    from mtmsa_lightning.inference.ranks import choose_devices, predict_on

    devices = choose_devices(options.accelerator, options.devices)
    load = partial(
        load_estimator, checkpoint, options.flip_test, allow_classes=allowed(),
        batch_size=options.batch_size,
        max_pixels=options.max_pixels, precision=options.precision,
        smallest_face=options.smallest_face, orientation=options.orientation,
    )  # fmt: skip
    estimator = load(device=devices[0] if len(devices) == 1 else "cpu")
    detect = estimator.preprocessing.detects if options.detect is None else options.detect
    log.info("%s", estimator.describe(detect))
    warn_preprocessing(estimator, inputs, detect)
    named = [path or STARTER for path in networks]
    plan = make_plan(
        named[0] if len(named) == 1 else named, estimator, inputs, detect, options.annotate, shard
    )
    folder = options.out if shard[1] > 1 else options.out.with_name(f"{options.out.name}.parts")
    workers = options.num_workers or available_cores() // len(devices)
    job = Job(inputs, Parts(folder, plan), detect, options.annotate, max(1, workers))
    one = len(devices) == 1
    work = partial(predict_parts, estimator, job) if one else partial(predict_on, devices, load, job)
    if shard[1] > 1:
        with locked(folder, "mtmsa predict"):
            _make_parts(job.parts, work, options)
        print(_describe_shard(options.shard, job.parts, len(inputs)))
        return None
    return _make_table(job, work, options)


def _describe_shard(shard: str, parts: "Parts", images: int) -> str:
    number = sum(len(parts.positions(part)) for part in parts.numbers)
    if number:
        return f"shard {shard}: {number:,} of {pluralize(images, 'image')}: {parts.folder}"
    return (
        f"shard {shard}: no images: shards consist of parts of {parts.plan['part_size']} images, and there "
        f"{'is' if len(parts) == 1 else 'are'} only {len(parts)}; merge it with the others: {parts.folder}"
    )


def _make_table(job: "Job", work: "Work", options: argparse.Namespace) -> "Counts":
    """Make the table unless it is complete, and return its counts."""
    from mtmsa_lightning._utils.folders import locked
    from mtmsa_lightning.inference.annotated_images import write_sheet
    from mtmsa_lightning.inference.prediction_parts import clear, complete, join, refuse_to_lose

    parts, out = job.parts, options.out
    counts = None if options.overwrite else complete(out, parts.plan)
    if counts is not None:
        log.info("%s: is complete, nothing to do (--overwrite true makes it again)", out)
        return counts
    if not (options.overwrite or parts.begun):
        refuse_to_lose(out, parts.plan)
    with locked(parts.folder, "mtmsa predict"):
        _make_parts(parts, work, options)
        counts = join(parts.plan, [parts.file(number) for number in parts.numbers], out)
        if options.contact_sheet is not None and counts.faces:
            write_sheet(parts, job.inputs, counts.faces, options.contact_sheet)
        clear(parts.folder)
    return counts


def _make_parts(parts: "Parts", work: "Work", options: argparse.Namespace) -> None:
    """Make the parts that are missing."""
    from mtmsa_lightning._utils.folders import make_folder
    from mtmsa_lightning._utils.progress import progress

    parts.claim(options.overwrite)
    sheet = options.contact_sheet
    for folder in filter(None, (options.annotate, sheet and sheet.parent)):
        make_folder(folder)
    missing = parts.missing()
    total, left = (sum(len(parts.positions(n)) for n in numbers) for numbers in (parts.numbers, missing))
    if left < total:
        log.info("%s: continuing, %s of %s images are done", parts.folder, f"{total - left:,}", f"{total:,}")
    with progress("images", total, total - left) as advance:
        work(missing, advance)


def report(counts: "Counts", out: Path, strict: bool = False) -> None:
    """Print the numbers of faces and of skipped images.

    Raises:
        DataError: No face could be predicted; or, with ``strict``, an image could not be read.
    """
    from mtmsa_lightning.inference.prediction_parts import SKIPPED, beside

    listed = beside(out, SKIPPED)
    if counts.faces:
        done = counts.images - counts.no_face - counts.unreadable
        images = pluralize(counts.images, "image")
        print(f"{pluralize(counts.faces, 'face')} in {done:,} of {images}: {out}")
        if counts.turned:
            lying = pluralize(counts.turned, "face")
            print(f"on their side or upside down, turned upright: {lying} (column `turned`, in degrees)")
        if reasons := _reasons(counts):
            print(f"skipped: {reasons}: {listed}")
            _print_skipped(listed, counts.no_face + counts.unreadable)
    _check_counts(counts, strict, listed)


def _check_counts(counts: "Counts", strict: bool, listed: Path | str) -> None:
    if not counts.faces:
        raise DataError(f"no face in {pluralize(counts.images, 'image')}: {_reasons(counts)}: {listed}")
    if strict and counts.unreadable:
        raise DataError(f"--strict: {pluralize(counts.unreadable, 'image')} could not be read: {listed}")


def _reasons(counts: "Counts") -> str:
    """Return the numbers of skipped images by reason; "" if there are none."""
    numbers = {"without a face": counts.no_face, "unreadable": counts.unreadable}
    return ", ".join(f"{number:,} {reason}" for reason, number in numbers.items() if number)


def _print_skipped(file: Path, number: int) -> None:
    for row in _read_rows(file)[:_SHOWN]:
        print(f"  {row['file']}: {row['reason']}")
    if number > _SHOWN:
        print("  ...")


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none if it does not exist."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _check_table(out: Path) -> None:
    if out.suffix not in SUFFIXES:
        endings = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise ConfigError(f"--out {out}: write predictions to a file ending in {endings}")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder: name a file")
    check_folder(out.parent)


def _check_places(options: argparse.Namespace, shard: tuple[int, int]) -> None:
    """Refuse output paths that cannot work, before heavy imports."""
    if shard[1] == 1:
        _check_table(options.out)
    elif options.out.suffix in SUFFIXES:
        raise ConfigError(
            f"{options.out}: a shard is a folder, from which `mtmsa predict merge` makes the file: give "
            "--out a name without an ending"
        )
    else:
        check_folder(options.out)
    if options.contact_sheet is not None and options.contact_sheet.suffix not in (".jpg", ".png"):
        raise ConfigError(f"--contact_sheet {options.contact_sheet}: choose a name ending in .jpg or .png")
    if options.contact_sheet is not None and shard[1] > 1:
        raise ConfigError("--contact_sheet is made of a whole table, not of a shard")
    if options.annotate is not None:
        check_folder(options.annotate)
    if options.contact_sheet is not None:
        check_folder(options.contact_sheet.parent)
    for path in options.paths if options.annotate is not None else ():
        if Path(path).resolve() in (options.annotate.resolve(), *options.annotate.resolve().parents):
            raise ConfigError(f"--annotate {options.annotate}: lies inside {path}, among the photos")
