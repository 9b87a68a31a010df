"""A published list of ids with their parts or folds, as the split of a table (protocol ``predefined``)."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning.data.files import read_delimited
from mtmsa_lightning.data.table import SCHEMA, SPLITS, FaceTable, ReadReport
from mtmsa_lightning.errors import DataError

_SHOWN = 5


def apply_split_file(table: FaceTable, path: str | Path) -> FaceTable:
    """Replace the columns ``split`` and ``fold`` of a table by those of a file.

    The file is a CSV with a header: ``id`` (with or without the leading ``<dataset>/``) and either ``split``
    (train, val, test) or ``fold`` (numbers from 0). Faces that it does not list are dropped from the table;
    the report counts them, with their position in the table, from 1, as line.

    Args:
        table: The faces.
        path: The file.

    Raises:
        DataError: The file cannot be read, lacks a column, holds an unknown part or a fold that is no number,
            names a face twice, or names faces that the table does not have.
    """
    path = Path(path)
    column, listed = _read(path)
    ids = _resolve(listed["id"].tolist(), table, path)
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
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read(path: Path) -> tuple[str, pd.DataFrame]:
    """Return which column the file has, ``split`` or ``fold``, and its rows: ``id`` and checked ``value``."""
    report = ReadReport(str(path))
    rows = read_delimited(path, ",", ("id",), report)
    columns = [name for name in rows if str(name).lower() in ("split", "fold")]
    if len(columns) != 1:
        raise DataError(f"{path}: needs either a column 'split' or a column 'fold', has {columns or 'none'}")
    if report.dropped:
        raise DataError(f"{path}: {report.dropped[0]}")
    if rows.empty:
        raise DataError(f"{path}: lists no face")
    column = str(columns[0]).lower()
    values = _checked(rows[columns[0]].str.strip().str.lower(), column, path)
    return column, pd.DataFrame({"id": rows["id"].str.strip(), "value": values})


def _checked(cells: "pd.Series[str]", column: str, path: Path) -> "pd.Series[Any]":
    good = cells.isin(SPLITS) if column == "split" else cells.str.fullmatch(r"[0-9]{1,6}")
    if not good.all():
        allowed = ", ".join(SPLITS) if column == "split" else "the numbers from 0"
        line, text = next(iter(cells[~good].items()))
        raise DataError(f"{path}: line {line}: {column} {text!r} is none of {allowed}")
    return cells if column == "split" else cells.astype("int64")


def _resolve(ids: Sequence[str], table: FaceTable, path: Path) -> list[str]:
    """Return the table's ids that the file's mean."""
    known = set(table.frame["id"])
    full = [name if name in known else f"{table.dataset}/{name}" for name in ids]
    missing = [name for name, resolved in zip(ids, full, strict=True) if resolved not in known]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{path}: {len(missing):,} of its {len(ids):,} ids are not in the table of {table.dataset} "
            f"({len(known):,} faces): {shown}"
        )
    twice = pd.Series(full)[pd.Series(full).duplicated()].unique().tolist()
    if twice:
        raise DataError(f"{path}: {len(twice):,} ids stand more than once: {', '.join(twice[:_SHOWN])}")
    return full
