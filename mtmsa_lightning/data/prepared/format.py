"""The format of a prepared set: cropped faces with their table.

On disk::

    <root>/
      dataset.json    description of the set, written last, so that it exists only for complete sets
      faces.parquet   the face table; ``path`` is relative to <root>, ``id`` is the original one
      crops/          the images: square RGB JPEG files
      skipped.csv    images of the release that are not in the table, with the reason
      pixels.npy      optional: all crops decoded (``data.pixels``)
"""

import os
import posixpath
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.file_access import find_normalised, open_regular, read_regular
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.face_table import SCHEMA, FaceTable, ReadReport
from mtmsa_lightning.data.release_files import hash_lines
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import SYNTHETIC_RECORD

FORMAT_VERSION = 1
RECORD = "dataset.json"
TABLE = "faces.parquet"
CROPS = "crops"
SKIPPED = "skipped.csv"

ALREADY_ALIGNED = "none (already aligned)"
"""Value of the detector for a release of aligned faces."""

_KEYS: dict[str, type] = {
    "format_version": int, "dataset": str, "label_rule": str, "race_classes": list, "table": str,
}  # fmt: skip
_AGAIN = "run `mtmsa prepare` again or copy the whole folder again"


def is_prepared(root: str | Path) -> bool:
    """Return whether ``root`` is a prepared set."""
    return (Path(root) / RECORD).is_file()


def is_synthetic(root: str | Path) -> bool:
    """Return whether the faces at ``root`` were drawn by this package, prepared or not."""
    if is_prepared(root):
        return bool(read_description(root).get("synthetic"))
    return (Path(root) / SYNTHETIC_RECORD).is_file()


def read_description(root: str | Path) -> dict[str, Any]:
    """Read and check ``dataset.json``, the description of a prepared set.

    Raises:
        DataError: It is missing, damaged, or has a newer format.
    """
    path = Path(root) / RECORD
    try:
        record = from_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): {_AGAIN}") from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise DataError(
            f"{path}: format {version} is newer than that of this version of the package ({FORMAT_VERSION}): "
            "update mtmsa-lightning, or run `mtmsa prepare` with this version"
        )
    wrong = [key for key, kind in _KEYS.items() if version is None or not isinstance(record.get(key), kind)]
    if wrong:
        raise DataError(f"{path}: {', '.join(wrong)} missing or of the wrong type: {_AGAIN}")
    if record["table"] != posixpath.basename(record["table"]):
        raise DataError(f"{path}: table {record['table']!r} must be the name of a file beside it: {_AGAIN}")
    return dict(record)


def read_prepared(root: str | Path, dataset: str, label_rule: str | None = None) -> FaceTable:
    """Read a prepared set with the expected dataset and label rule (None accepts any).

    Raises:
        DataError: The set has another dataset, label rule or newer format, or files are missing or damaged.
    """
    root = Path(root)
    record = read_description(root)
    shard = record.get("options", {}).get("shard")
    if shard:
        raise DataError(f"{root}: is only part {shard} of a set: join the parts by `mtmsa prepare merge`")
    for key, expected in (("dataset", dataset), ("label_rule", label_rule)):
        if expected is not None and record[key] != expected:
            raise DataError(
                f"{root}: this prepared set has {key} {record[key]!r}, not {expected!r}: "
                "give another folder, or prepare the set again"
            )
    frame = read_frame(root / record["table"])
    _refuse_outside(root, [record["table"], *frame["path"].tolist()])
    frame = frame.assign(path=locate_crops(root, frame["path"].tolist()))
    missing = _missing(root, frame["path"].tolist())
    if missing:
        raise DataError(
            f"{root}: images missing: {len(missing):,} of {len(frame):,}, such as {shown(missing[:1])}: "
            f"{_AGAIN}"
        )
    report = ReadReport(str(root / record["table"]), read=len(frame))
    return FaceTable(frame, root, dataset, record["label_rule"], tuple(record["race_classes"]), report)


BOXED: dict[str, Any] = {"crop": {"boxes": True}}
"""Record in place of a preparation: raw images were cropped to the face boxes of their table."""


def preparation(root: str | Path) -> dict[str, Any] | None:
    """Return the record of how a prepared set was made, as plain values; None for a raw release."""
    if not is_prepared(root):
        return None
    record = read_description(root)
    return {key: record[key] for key in ("crop", "counts", "release", "fingerprints") if key in record}


def skipped(root: str | Path) -> Counter[str]:
    """Count the skipped rows of a prepared set by reason; empty for a raw release."""
    if not is_prepared(root):
        return Counter()
    reasons = Counter[str](read_description(root).get("release", {}).get("dropped", {}))
    file = Path(root) / SKIPPED
    if file.is_file():
        reasons.update(pd.read_csv(file, dtype="str")["reason"].tolist())
    return reasons


def write_description(record: dict[str, Any], root: Path) -> None:
    """Write ``dataset.json`` atomically, which completes the set."""
    write_text(root / RECORD, to_json(record, indent=2, ensure_ascii=False) + "\n")


LABELS = ("id", "age_low", "age_high", "gender", "race", "subject", "fold", "split")
"""Columns in the fingerprint of a table."""


def table_fingerprint(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of the ids and labels of a table, in the order of its rows."""
    columns = [frame[name].astype(object).where(frame[name].notna(), "") for name in LABELS]
    return hash_lines("\t".join(map(str, row)) for row in zip(*columns, strict=True))


def locate_crops(root: Path, paths: list[str]) -> list[str]:
    """Return the paths on disk, which may differ in Unicode normalisation."""
    folders: dict[Path, dict[str, str]] = {}
    return [
        path if path.isascii() else find_normalised(root / path, folders).relative_to(root).as_posix()
        for path in paths
    ]


def _refuse_outside(root: Path, paths: list[str]) -> None:
    """Raise an error if paths or links lead out of a set."""
    home = root.resolve()
    folders = {posixpath.dirname(path) for path in paths}
    inside = {
        folder
        for folder in folders
        if ".." not in folder.split("/") and (root / folder).resolve().is_relative_to(home)
    }
    links: set[str] = set()
    for folder in inside:
        with suppress(OSError), os.scandir(root / folder) as entries:
            links.update(
                posixpath.join(folder, entry.name)
                for entry in entries
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(home)
            )
    outside = [path for path in paths if posixpath.dirname(path) not in inside or path in links]
    if outside:
        raise DataError(f"{root}: paths are outside of this folder, such as {shown(outside[:1])}: {_AGAIN}")


def _missing(root: Path, paths: list[str]) -> list[str]:
    """Return the missing paths, by one listing of each folder."""
    present: set[str] = set()
    for folder in {posixpath.dirname(path) for path in paths}:
        with suppress(OSError):  # a missing folder
            present.update(posixpath.join(folder, file.name) for file in (root / folder).iterdir())
    return [path for path in paths if path not in present]


def read_frame(path: Path) -> pd.DataFrame:
    """Read the table of a prepared set without checking its images."""
    try:
        with open_regular(path) as file:
            frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise DataError(f"{path}: cannot be read ({error}): {_AGAIN}") from error
    missing = [name for name in SCHEMA if name not in frame]
    if missing:
        raise DataError(f"{path}: columns {missing} are missing: {_AGAIN}")
    return frame
