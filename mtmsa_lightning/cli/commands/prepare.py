"""``mtmsa prepare``: faces found, aligned and cropped once, with their finished table beside them."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning.align import MARGIN
from mtmsa_lightning.cli.arguments import Parser, fraction, real_number, whole_number, whole_number_from

if TYPE_CHECKING:
    from mtmsa_lightning.align.files import CropSettings
    from mtmsa_lightning.data.table import FaceTable

log = logging.getLogger(__name__)

RELEASES = {
    "morph": "MORPH Album II: mug shots",
    "adience": "Adience: pictures of the variant `aligned`, or `faces`",
    "utkface": "UTKFace: pictures that are aligned and cropped",
    "csv": "your own photos, described by a text table",
    "folder": "images without labels, for prediction",
}
TIGHT = ("utkface",)
"""Releases whose pictures hold no more than the square from forehead to chin."""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa prepare",
        description="Find the face of every image of a release, bring its landmarks to one position, and "
        "write the crops with their table. Start the same command again to go on after an interruption.",
    )
    verbs = parser.add_subparsers(dest="release", required=True, metavar="RELEASE")
    parsers = {name: _release_parser(verbs, name, text) for name, text in RELEASES.items()}
    adience, table = parsers["adience"], parsers["csv"]
    adience.add_argument("--label_rule", choices=("canonical", "extended"), default="canonical")
    adience.add_argument("--variant", choices=("aligned", "faces"), default="aligned")
    table.add_argument("--table", default="faces.csv", help="relative to the root (default: faces.csv)")
    table.add_argument("--columns", nargs="+", default=[], metavar="OURS=THEIRS", help="e.g. age=years")
    table.add_argument("--dataset_name", default="csv", help="name in ids and results (default: csv)")
    table.add_argument("--race_classes", nargs="+", metavar="RACE", help="subset in use (default: all)")
    merge = verbs.add_parser(
        "merge",
        help="join the shards of a set",
        description="Join the shards of a prepared set.",
        prog="mtmsa prepare merge",
    )
    merge.add_argument("shards", nargs="+", type=Path, metavar="DIR", help="folders made with --shard")
    _add_writing(merge)
    return parser


def _release_parser(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=f"{text}.", prog=f"mtmsa prepare {name}"
    )
    add = parser.add_argument
    add("--root", required=True, type=Path, help="the release: a folder, .zip, .tar, .tar.gz or .tgz")
    _add_writing(parser)
    add("--size", type=whole_number, default=256, help="side of the crops in pixels (default: 256)")
    margin = 0.0 if name in TIGHT else MARGIN
    add("--margin", type=real_number, default=margin, help="added on each side of the square from forehead "
        f"to chin, as a fraction of it (default: {margin:g}); the same for sets to compare")  # fmt: skip
    searched = {"utkface": "no: aligned already", "adience": "no for aligned, yes for faces"}.get(name, "yes")
    add("--detect", action=argparse.BooleanOptionalAction, help=f"look for the face (default: {searched})")
    add("--no_face", choices=("drop", "centre"), default="drop" if name == "folder" else "centre",
        help="an image in which no face is found is left out, or cropped to its centre (where its release is "
        "aligned: to the known place); named either way (default: %(default)s)")  # fmt: skip
    add("--workers", type=whole_number_from(1), help="processes (default: one per core)")
    add("--shard", default="1/1", metavar="I/N", help="make part I of N; join the parts by `merge`")
    add("--max_unreadable", type=fraction, default=0.05, help="share of images that may be unreadable "
        "(default: 0.05); they are listed and left out")  # fmt: skip
    return parser


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, help="folder of the prepared set")
    parser.add_argument(
        "--pixels",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also write all crops, decoded, to pixels.npy: training then decodes nothing",
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the set that is there, start anew")


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: An option, the release or the output folder is of no use, before any long work; or images
            turned out unreadable, in which case what was done is kept.
    """
    options = parser().parse_args(args)
    if options.release == "merge":
        from mtmsa_lightning.data.prepared.shards import merge

        record = merge(options.shards, options.out, options.pixels, options.overwrite)
    else:
        record = _prepare(options)
    _report(record, options.out)


def _prepare(options: argparse.Namespace) -> dict[str, Any]:
    reading, shard = _reading(options), parse_shard(options.shard)
    _check_root(options.root, options.out)
    settings = _settings(options)

    from mtmsa_lightning.data.prepared.making import PrepareOptions, prepare

    wanted = PrepareOptions(options.release, settings, reading, shard)

    def read(unpacked: Path) -> "FaceTable":
        return read_release(options.release, _folder(options.root, unpacked, options), reading)

    workers = available_cores() if options.workers is None else max(1, options.workers)
    return prepare(
        wanted, read, options.out, workers, options.pixels, options.overwrite, options.max_unreadable,
        reread=options.root.is_dir(),  # an archive would have to be unpacked for it
    )  # fmt: skip


def _settings(options: argparse.Namespace) -> "CropSettings":
    from mtmsa_lightning.align.files import CropSettings
    from mtmsa_lightning.errors import ConfigError

    if not 64 <= options.size <= 1024:
        raise ConfigError(f"--size {options.size}: choose 64 to 1024 pixels")
    if not -0.25 <= options.margin <= 2:
        raise ConfigError(f"--margin {options.margin}: choose -0.25 to 2")
    is_aligned = options.release == "utkface" or getattr(options, "variant", "") == "aligned"
    detect = not is_aligned if options.detect is None else options.detect
    aligned = options.release if is_aligned else None
    return CropSettings(options.size, options.margin, detect, aligned, options.no_face == "centre")


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the reader's own options as plain values."""
    from mtmsa_lightning.errors import ConfigError

    names = {"adience": ("label_rule", "variant"), "csv": ("table", "dataset_name", "race_classes")}
    reading = {name: getattr(options, name) for name in names.get(options.release, ())}
    if options.release == "csv":
        pairs = [text.partition("=") for text in options.columns]
        if not all(ours and theirs for ours, _, theirs in pairs):
            raise ConfigError(f"--columns {' '.join(options.columns)}: write pairs such as age=years")
        reading["columns"] = {ours: theirs for ours, _, theirs in pairs}
    return reading


def parse_shard(text: str) -> tuple[int, int]:
    """Return number, from 1, and count of ``I/N``.

    Raises:
        ConfigError: It says something else.
    """
    from mtmsa_lightning.errors import ConfigError

    index, _, number = text.partition("/")
    if not (index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number)):
        raise ConfigError(f"--shard {text}: write I/N with I from 1 to N, such as 1/4")
    return int(index), int(number)


def _check_root(root: Path, out: Path) -> None:
    from mtmsa_lightning.data.prepared.archives import SUFFIXES, is_archive
    from mtmsa_lightning.data.prepared.format import is_prepared
    from mtmsa_lightning.errors import DataError

    if not (root.is_dir() or is_archive(root)):
        problem = f"is no folder and has none of the endings {', '.join(SUFFIXES)}"
        raise DataError(f"--root {root}: {problem if root.exists() else 'does not exist'}")
    if root.resolve() in out.resolve().parents:
        raise DataError(f"--out {out}: lies inside the release, where its crops would count as images of it")
    if is_prepared(root):
        raise DataError(f"--root {root}: is a prepared set already (dataset.json): give the release itself")


def _folder(root: Path, unpacked: Path, options: argparse.Namespace) -> Path:
    """Return the release's folder; unpack an archive first."""
    if root.is_dir():
        return root
    from mtmsa_lightning._utils.file_access import find_normalised
    from mtmsa_lightning.data.prepared.archives import extract

    log.info("unpacking %s", root)
    stamp = root.stat()  # another archive, or the same one mended, is unpacked anew
    unpacked = unpacked / f"{stamp.st_size}-{stamp.st_mtime_ns}"
    extract(root, unpacked)
    entries = [entry for entry in unpacked.iterdir() if not entry.name.startswith(".")]
    nested = (
        options.release == "csv"
        and len(entries) == 1
        and find_normalised(entries[0] / options.table).is_file()
    )
    return entries[0] if nested else unpacked


def read_release(release: str, root: Path, reading: dict[str, Any]) -> "FaceTable":
    """Read a raw release.

    Args:
        release: A key of ``RELEASES``.
        root: Its folder.
        reading: Options of its reader.

    Raises:
        DataError: It is not there or cannot be read.
    """
    if release == "morph":
        from mtmsa_lightning.data.datasets.morph import read_morph

        return read_morph(root)
    if release == "adience":
        from mtmsa_lightning.data.datasets.adience import read_adience

        return read_adience(root, **reading)
    if release == "utkface":
        from mtmsa_lightning.data.datasets.utkface import read_utkface

        return read_utkface(root)
    if release == "csv":
        from mtmsa_lightning.data.datasets.face_csv import FaceCSV

        given = {name: value for name, value in reading.items() if value}
        return FaceCSV(root=str(root), protocol="whole", **given).read()  # nothing is split
    from mtmsa_lightning.data.datasets.folder import read_folder

    return read_folder(root)


def _report(record: dict[str, Any], out: Path) -> None:
    """Print what came out."""
    counts = record["counts"]
    if counts["several_faces"]:
        print(f"images with several faces, of which the largest was taken: {counts['several_faces']:,}")
    if counts["images"] > counts["faces"]:
        skipped = f"{counts['no_face_dropped']:,} without a face, {counts['unreadable']:,} unreadable"
        print(f"left out: {skipped}: {out / 'skipped.csv'}")
    print(f"{counts['faces']:,} of {counts['images']:,} faces of {record['dataset']}: {out}")
