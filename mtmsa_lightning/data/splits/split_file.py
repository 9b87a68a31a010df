"""Split files: published lists of ids with their parts or folds (protocol ``predefined``)."""

import hashlib
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.file_access import find_normalised, open_regular
from mtmsa_lightning._utils.text import pluralize, shown
from mtmsa_lightning.data.files import read_delimited
from mtmsa_lightning.data.table import SCHEMA, SPLITS, FaceTable, ReadReport
from mtmsa_lightning.errors import DataError

_SHOWN = 5


def apply_split_file(table: FaceTable, path: str | Path) -> FaceTable:
    """Replace the columns ``split`` and ``fold`` of a table by those of a file.

    The file is a CSV with a header: ``id`` (with or without the leading ``<dataset>/``) and either ``split``
    (train, val, test) or ``fold`` (numbers from 0). Faces that it does not list are dropped; the report
    counts them, with their position in the table, from 1, as line.

    Args:
        table: The faces.
        path: The file.

    Raises:
        DataError: The file cannot be read, lacks a column, contains an unknown part, repeated or unknown ids,
            or folds that are not numbered from 0 without a gap.
    """
    path = find_normalised(Path(path))
    column, listed = _read(path)
    ids = _resolve(listed["id"], table, path)
    frame = table.frame.assign(split="", fold=-1)
    frame[column] = frame["id"].map(dict(zip(ids, listed["value"], strict=True)))
    absent = frame[column].isna()
    report = replace(table.report, dropped=[*table.report.dropped])
    frame = report.drop_rows(frame.set_axis(range(1, len(frame) + 1)), absent, "id", f"not in {path.name}")
    return replace(table, frame=frame.reset_index(drop=True).astype(SCHEMA), report=report)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal digits.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open_regular(find_normalised(Path(path))) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read(path: Path) -> tuple[str, pd.DataFrame]:
    """Return the name of the column, ``split`` or ``fold``, and the rows: ``id`` and validated ``value``."""
    report = ReadReport(str(path))
    rows = read_delimited(path, ",", ("id",), report)
    columns = [name for name in rows if str(name).lower() in ("split", "fold")]
    if len(columns) != 1:
        raise DataError(f"{path}: needs either a column 'split' or a column 'fold', has {columns or 'none'}")
    if report.dropped:
        raise DataError(f"{path}: {report.dropped[0]}")
    column = str(columns[0]).lower()
    values = _checked(rows[columns[0]].str.strip().str.lower(), column, path)
    return column, pd.DataFrame({"id": rows["id"].str.strip(), "value": values})


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
    """Return the table's ids for those of the file, ignoring Unicode normalisation (NFC, NFD)."""
    ids = table.frame["id"].tolist()
    known = {_plain(name): name for name in ids} | {name: name for name in ids}
    full = [_find(name, known, table.dataset) for name in listed]
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


def _find(name: str, known: dict[str, str], dataset: str) -> str | None:
    """Return the id for a name with or without the dataset, an exact match first."""
    full = f"{dataset}/{name}"
    return next((known[form] for form in (name, full, _plain(name), _plain(full)) if form in known), None)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
