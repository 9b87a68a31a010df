"""Split files: published lists of images with their parts or folds (``predefined``, ``cvpr2024``)."""

import json
import posixpath
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.file_access import file_sha256, find_normalised, read_regular
from mtmsa_lightning._utils.text import pluralize, shown
from mtmsa_lightning.align.box import BOX, turned_boxes
from mtmsa_lightning.data.face_table import SCHEMA, SPLITS, FaceTable, ReadReport
from mtmsa_lightning.data.prepared.format import is_prepared
from mtmsa_lightning.data.release_files import fold_name, hash_lines, read_delimited, sniff
from mtmsa_lightning.errors import DataError

NAMES = ("filename", "file", "image", "img_path")
"""Columns with the name of an image in lists of parts, beside ``id`` and ``path``."""

_SHOWN = 5


def apply_split_file(table: FaceTable, path: str | Path) -> FaceTable:
    """Replace the columns ``split`` and ``fold`` of a table by those of a file.

    The file is a CSV with a header: ``id`` (with or without the leading ``<dataset>/``) or ``path``, and
    either ``split`` (train, val, test) or ``fold`` (numbers from 0). Or it is a JSON file of the CVPR 2024
    benchmark (Paplham and Franc): a list of objects with ``img_path``, ``folder`` (the fold) and
    ``aligned_bbox``, whose square is the crop of a raw image (``align.box``). Or it is a folder with a CSV
    for each part, named by it (``utk_train.csv``, ``utk_test.csv``), with a column ``id``, ``path`` or one of
    ``NAMES``. Faces that are not listed are dropped; the report counts them, with their position in the
    table, from 1, as line.

    A name that is not an id is found by the end of its path, by its file name if that is unique, or by the
    leading number of the file name if the table has a column ``number``.

    Raises:
        DataError: The file cannot be read, lacks a column, contains an unknown part, repeated or unknown ids,
            or folds that are not numbered from 0 without a gap.
    """
    path = find_normalised(Path(path))
    if path.is_dir():
        column, listed = "split", _read_parts(path)
    else:
        column, listed = _read_json(path) if path.suffix.lower() == ".json" else _read(path)
    listed = listed.assign(id=_resolve(listed["id"], table, path)).set_index("id")
    frame = table.frame.assign(split="", fold=-1)
    frame[column] = frame["id"].map(listed["value"])
    absent = frame[column].isna()
    if BOX[0] in listed and not is_prepared(table.root):
        frame = frame.assign(**{name: frame["id"].map(listed[name]) for name in BOX})
    report = replace(table.report, dropped=[*table.report.dropped])
    frame = report.drop_rows(frame.set_axis(range(1, len(frame) + 1)), absent, "id", f"not in {path.name}")
    return replace(table, frame=frame.reset_index(drop=True).astype(SCHEMA), report=report)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, or of the hashes of a folder's lists, in hexadecimal digits.

    Raises:
        DataError: A file cannot be read, or the folder does not hold a list for each part.
    """
    try:
        path = find_normalised(Path(path))
        if path.is_dir():
            return hash_lines(f"{part}\t{file_sha256(file)}" for part, file in _lists(path).items())
        return file_sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read(path: Path) -> tuple[str, pd.DataFrame]:
    """Return the name of the column, ``split`` or ``fold``, and the rows: ``id`` and validated ``value``."""
    report = ReadReport(str(path))
    header = [*map(str.lower, sniff(path)[1])]
    name = "path" if "path" in header and "id" not in header else "id"
    rows = read_delimited(path, ",", (name,), report)
    columns = [name for name in rows if str(name).lower() in ("split", "fold")]
    if len(columns) != 1:
        raise DataError(f"{path}: needs either a column 'split' or a column 'fold', has {columns or 'none'}")
    if report.dropped:
        raise DataError(f"{path}: {report.dropped[0]}")
    column = str(columns[0]).lower()
    values = _checked(rows[columns[0]].str.strip().str.lower(), column, path)
    return column, pd.DataFrame({"id": rows[name].str.strip(), "value": values})


def _lists(folder: Path) -> dict[str, Path]:
    """Return the lists of a folder by part; train and test are needed."""
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.csv")):
        parts = [part for part in SPLITS if re.search(rf"(?<![a-z]){part}", file.stem.lower())]
        if len(parts) != 1 or parts[0] in found:
            raise DataError(f"{file}: a folder of lists needs one CSV a part, named by train, val or test")
        found[parts[0]] = file
    if not {"train", "test"} <= found.keys():
        raise DataError(f"{folder}: needs lists such as utk_train.csv and utk_test.csv, has {[*found]}")
    return found


def _read_parts(folder: Path) -> pd.DataFrame:
    """Return the rows of a folder's lists: ``id`` and the part as ``value``."""
    parts = []
    for part, file in _lists(folder).items():
        header = {name.lower(): name for name in sniff(file)[1]}
        column = next((name for name in ("id", "path", *NAMES) if name in header), "id")
        report = ReadReport(str(file))
        rows = read_delimited(file, ",", (column,), report)
        if report.dropped:
            raise DataError(f"{file}: {report.dropped[0]}")
        parts.append(pd.DataFrame({"id": rows[column].str.strip(), "value": part}))
    return pd.concat(parts)


def _read_json(path: Path) -> tuple[str, pd.DataFrame]:
    """Return ``fold``, and the rows of a file of the benchmark: ``id``, ``value`` and the columns ``BOX``."""
    try:
        entries = json.loads(read_regular(path))
        index = pd.RangeIndex(1, len(entries) + 1)
        names = pd.Series([str(entry["img_path"]) for entry in entries], index, dtype="str")
        folders = pd.Series([str(entry["folder"]) for entry in entries], index, dtype="str")
        corners = [entry.get("aligned_bbox") or [np.nan] * 8 for entry in entries]
        boxes = turned_boxes(np.array(corners, np.float64).reshape(len(entries), 8))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: is not a list of objects with img_path, folder and aligned_bbox (8 numbers): {error!r}"
        ) from error
    listed = pd.DataFrame({"id": names, "value": _checked(folders, "fold", path)})
    columns = dict(zip(BOX, boxes.T, strict=True)) if np.isfinite(boxes).any() else {}
    return "fold", listed.assign(**columns)


def _checked(cells: "pd.Series[str]", column: str, path: Path) -> "pd.Series[Any]":
    """Return the parts or fold numbers; there must be at least two folds, 0, 1, ... without a gap."""
    good = cells.isin(SPLITS) if column == "split" else cells.str.fullmatch(r"[0-9]{1,6}").astype(bool)
    if not good.all():
        allowed = ", ".join(SPLITS) if column == "split" else "the numbers from 0"
        line, text = next(iter(cells[~good].items()))
        raise DataError(f"{path}: line {line}: {column} {shown([text])} is not one of {allowed}")
    if column == "split":
        return cells
    numbers = cells.astype("int64")
    found = sorted(numbers.unique().tolist())
    if len(found) < 2 or found != list(range(len(found))):
        raise DataError(
            f"{path}: its folds are [{shown(found)}]: number them 0, 1, 2, ... without a gap, at least two"
        )
    return numbers


def _resolve(listed: "pd.Series[str]", table: FaceTable, path: Path) -> list[str]:
    """Return the table's ids for the names in the file."""
    ids = table.frame["id"].tolist()
    find = _Finder(table)
    full = [find(name) for name in listed]
    missing = [(line, name) for (line, name), found in zip(listed.items(), full, strict=True) if not found]
    if missing:
        line, _ = missing[0]
        raise DataError(
            f"{path}: {len(missing):,} of its {len(listed):,} ids are not in the table of {table.dataset} "
            f"({pluralize(len(ids), 'face')}), the first in line {line}: "
            f"{shown([name for _, name in missing], _SHOWN)}"
        )
    twice = listed[pd.Series(full, index=listed.index).duplicated()]
    if len(twice):
        raise DataError(
            f"{path}: {pluralize(len(twice), 'id is', 'ids are')} repeated, the first in line "
            f"{twice.index[0]}: {shown(twice.tolist(), _SHOWN)}"
        )
    return [name for name in full if name is not None]


class _Finder:
    """Finds the id of a name: an exact match first, then without differences of case and Unicode."""

    def __init__(self, table: FaceTable) -> None:
        ids = table.frame["id"].tolist()
        self._dataset = table.dataset
        self._known: dict[str, str] = {fold_name(name): name for name in ids} | dict(
            zip(ids, ids, strict=True)
        )
        stems = [fold_name(posixpath.basename(name)) for name in ids]
        repeated = pd.Series(stems, dtype="str").duplicated(keep=False)
        pairs = zip(stems, ids, repeated, strict=True)
        self._by_stem: dict[str, str] = {stem: name for stem, name, several in pairs if not several}
        numbers = table.frame["number"].tolist() if "number" in table.frame else []
        self._by_number: dict[str, str] = dict(zip(map(str, numbers), ids, strict=False))

    def __call__(self, name: str) -> str | None:
        parts = name.split("/")
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        forms = [form for end in ends for form in (end, f"{self._dataset}/{end}")]
        found = (self._known.get(form) or self._known.get(fold_name(form)) for form in forms)
        number = parts[-1].partition("_")[0].lstrip("0") or "0"
        by_name = self._by_stem.get(fold_name(parts[-1])) or self._by_number.get(number)
        return next(filter(None, found), by_name)
