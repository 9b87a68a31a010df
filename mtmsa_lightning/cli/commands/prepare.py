"""``mtmsa prepare``: find, align and crop the faces of a release, and write them with their table."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.align.margin import CROP_MARGIN
from mtmsa_lightning.cli.arguments import (
    Parser,
    add_boolean,
    add_search,
    fraction,
    number_from,
    parse_shard,
    whole_number_from,
)
from mtmsa_lightning.cli.data_arguments import add_source_arguments, column_names, refuse_words
from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.data.remote import local_copy
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.settings.defaults import CROP_SIZE, MAX_UNREADABLE_PREPARED
from mtmsa_lightning.training.build_data import recognise

if TYPE_CHECKING:
    from mtmsa_lightning.align.crop_files import CropSettings
    from mtmsa_lightning.data.face_table import FaceTable

log = logging.getLogger(__name__)

SETTINGS: dict[str, dict[str, Any]] = {
    "morph": {},
    "adience": {"label_rule": "canonical", "variant": "aligned"},
    "utkface": {"variant": None},
    "agedb": {},
    "fgnet": {},
    "clap2016": {},
    "appa_real": {"age": "apparent", "variant": "faces"},
    "imdb_clean": {"variant": "cropped", "box_margin": 0.4},
    "cacd2000": {},
    "afad": {},
    "lagenda": {"box_margin": 0.2},
    "all_age_faces": {"variant": "faces"},
    "megaage_asian": {},
    "fairface": {"variant": "margin025", "repair_dates": False},
    "imdb_wiki": {"min_face_score": 1.0, "one_face": True, "max_age": 100},
    "csv": {
        "table": "faces.csv",
        "dataset_name": "csv",
        "race_classes": None,
        "labels": None,
        "repair_dates": None,
        "date_format": None,
        "box_margin": 0.0,
        "balance_by": None,
    },
    "folder": {},
}
"""Settings of the reader of each release, with their defaults."""

TIGHT = ("utkface",)
"""Releases whose images show no more than the square from forehead to chin."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa prepare",
        description="Find the face of every image of a release, bring its landmarks to one position, and "
        "write the crops with their table. After an interruption, the same command continues. Without "
        "--data, the release is recognised by its files.",
        epilog="--data folder: images without labels, for prediction. Settings: adience --data.label_rule "
        "canonical|extended, --data.variant aligned|faces; utkface --data.variant aligned|in_the_wild; csv "
        "--data.table, --data.dataset_name, --data.race_classes, --data.labels, --data.repair_dates, "
        "--data.date_format; others: docs/tables.md. "
        "`mtmsa prepare merge --help`: join the shards of a set.",
    )
    add_source_arguments(parser)
    _add_output(parser)
    add = parser.add_argument
    add("--size", type=whole_number_from(64, 1024), default=CROP_SIZE, help="side of the crops in pixels")
    add("--margin", type=number_from(-0.25, 2), help="added on each side of the square from forehead to "
        f"chin, as a fraction of it (default: {CROP_MARGIN}; utkface 0); use one value for sets to compare"
    )  # fmt: skip
    add_boolean(parser, "--detect", "look for the face", None, "false if the release's images are aligned")
    add_search(parser)
    add("--no_face", choices=("drop", "centre"), help="drop an image without a face, or crop its centre "
        "(of an aligned image: the known place); it is listed (default: centre; folder: drop)")  # fmt: skip
    add("--num_workers", type=whole_number_from(1), help="processes (default: one per core)")
    add("--shard", default="1/1", metavar="I/N", help="make shard I of N")
    add("--max_unreadable", type=fraction, default=MAX_UNREADABLE_PREPARED, help="fraction of images that "
        "may be unreadable; they are listed and skipped")  # fmt: skip
    return parser


def merge_parser() -> argparse.ArgumentParser:
    """Return the argument parser of ``mtmsa prepare merge``."""
    parser = Parser(prog="mtmsa prepare merge", description="Join the shards of a prepared set.")
    parser.add_argument("shards", nargs="+", type=Path, metavar="SHARD", help="folders made with --shard")
    _add_output(parser)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, help="folder of the prepared set")
    pixels = "also write the decoded crops to pixels.npy, so that training decodes nothing"
    add_boolean(parser, "--pixels", pixels, True)
    add_boolean(parser, "--overwrite", "replace an existing set")


def main(args: Sequence[str]) -> None:
    """Run the command; if images are unreadable, what was done is kept."""
    if args and args[0] == "merge":
        from mtmsa_lightning.data.prepared.shards import merge

        options = merge_parser().parse_args(args[1:])
        record = merge(options.shards, options.out, options.pixels, options.overwrite)
    else:
        options, others = parser().parse_known_args(args)
        record = _prepare(options, others)
    _report(record, options.out)


def _prepare(options: argparse.Namespace, others: Sequence[str]) -> dict[str, Any]:
    if options.root is None:
        raise ConfigError("give --root DIR, the release: a folder, .zip, .tar, .tar.gz or .tgz")
    shard, root = parse_shard(options.shard), local_copy(options.root)
    release = _release(options.data, root)
    reading = _reading(release, options.columns, others)
    _check_root(root, options.out)
    settings = _crop_settings(options, release, reading)

    from mtmsa_lightning.data.prepared.making import PrepareOptions, prepare

    def read(unpacked: Path) -> "FaceTable":
        return read_release(release, _folder(root, unpacked, reading.get("table")), reading)

    return prepare(
        PrepareOptions(release, settings, reading, shard), read, options.out,
        options.num_workers or available_cores(), options.pixels, options.overwrite, options.max_unreadable,
        reread=root.is_dir(),  # an archive would have to be unpacked for it
    )  # fmt: skip


def _release(data: str | None, root: Path) -> str:
    """Return a key of ``SETTINGS``; an archive is not recognised, but needs ``--data``."""
    names = {cls: name for name, cls in CLASSES.items()}
    if data is None:
        if root.is_file():
            raise ConfigError(f"{root}: name the dataset of an archive: --data {'|'.join(SETTINGS)}")
        return recognise(root)
    release = names.get(data, data)
    if release.lower() == "mixture":
        how = (
            "prepare each source by --data NAME --root DIR, and give the sets as their roots in data.sources"
        )
        raise ConfigError(f"--data {data}: {how}")
    if release not in SETTINGS:
        raise ConfigError(f"--data {data}: choose one of {', '.join(SETTINGS)}")
    return release


def _reading(release: str, columns: Sequence[str] | None, others: Sequence[str]) -> dict[str, Any]:
    """Return the reader's settings as plain values."""
    refuse_words(others)
    reading, rest = dict(SETTINGS[release]), list(others)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        name = flag.removeprefix("--data.")
        if name == flag or name not in reading:
            known = "".join(f", --data.{each}" for each in reading)
            raise ConfigError(f"there is no option {flag}: {release} takes --data, --root, --columns{known}")
        reading[name] = given = load_yaml(value if equals else rest.pop(0) if rest else "")
        default = SETTINGS[release][name]
        if isinstance(default, (bool, float)) and not isinstance(given, (type(default), int)):
            raise ConfigError(f"{flag} {given!r}: give a value such as {str(default).lower()}")
    if release == "csv":
        reading["labels"] = from_json(
            to_json(reading["labels"])
        )  # keys as texts, as in the record of the set
        reading["columns"] = column_names(columns or ())
    return reading


def _crop_settings(options: argparse.Namespace, release: str, reading: dict[str, Any]) -> "CropSettings":
    from mtmsa_lightning.align.crop import ALIGNED
    from mtmsa_lightning.align.crop_files import CropSettings

    is_aligned = release in ALIGNED and reading["variant"] in ("aligned", None)
    margin = options.margin
    if margin is None:
        margin = 0.0 if release in TIGHT and is_aligned else CROP_MARGIN
    detect = not is_aligned if options.detect is None else options.detect
    no_face = options.no_face or ("drop" if release == "folder" else "centre")
    known = release if is_aligned else None
    search = options.smallest_face, options.orientation
    return CropSettings(options.size, margin, detect, known, no_face == "centre", *search)


def _check_root(root: Path, out: Path) -> None:
    from mtmsa_lightning.data.prepared.archives import SUFFIXES, is_archive
    from mtmsa_lightning.data.prepared.format import is_prepared

    if not (root.is_dir() or is_archive(root)):
        problem = f"is neither a folder nor a file ending in {', '.join(SUFFIXES)}"
        raise DataError(f"--root {root}: {problem if root.exists() else 'does not exist'}")
    if root.resolve() in out.resolve().parents:
        raise DataError(f"--out {out}: lies inside the release, whose images its crops would become")
    if is_prepared(root):
        raise DataError(f"--root {root}: is a prepared set already (dataset.json): give the release itself")


def _folder(root: Path, unpacked: Path, table: str | None) -> Path:
    """Return the release's folder; unpack an archive first."""
    if root.is_dir():
        return root
    from mtmsa_lightning._utils.file_access import find_normalised
    from mtmsa_lightning.data.prepared.archives import extract

    log.info("unpacking %s", root)
    stamp = root.stat()  # a changed archive is unpacked again
    unpacked = unpacked / f"{stamp.st_size}-{stamp.st_mtime_ns}"
    extract(root, unpacked)
    entries = [entry for entry in unpacked.iterdir() if not entry.name.startswith(".")]
    nested = table is not None and len(entries) == 1 and find_normalised(entries[0] / table).is_file()
    return entries[0] if nested else unpacked


def read_release(release: str, root: Path, reading: dict[str, Any]) -> "FaceTable":
    """Read a raw release; ``release`` is a key of ``SETTINGS``."""
    if release != "folder":
        import mtmsa_lightning

        given = {name: value for name, value in reading.items() if value is not None}
        datamodule = getattr(mtmsa_lightning, CLASSES[release])
        return datamodule(root=str(root), protocol="whole", **given).read()  # type: ignore[no-any-return]
    from mtmsa_lightning.data.datasets.folder import read_folder

    return read_folder(root)


def _report(record: dict[str, Any], out: Path) -> None:
    """Print the numbers of faces and of skipped images."""
    counts = record["counts"]
    if counts["several_faces"]:
        print(f"images with several faces, of which the largest was used: {counts['several_faces']:,}")
    if turned := counts.get("turned", 0):
        faces = pluralize(turned, "face")
        print(f"on their side or upside down, turned upright: {faces} (column `turned`, in degrees)")
    if counts["images"] > counts["faces"]:
        skipped = f"{counts['no_face_dropped']:,} without a face, {counts['unreadable']:,} unreadable"
        print(f"skipped: {skipped}: {out / 'skipped.csv'}")
    print(f"{counts['faces']:,} of {counts['images']:,} faces of {record['dataset']}: {out}")
