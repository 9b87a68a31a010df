"""The rows of a table of faces as texts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.data.release_files import read_delimited, sniff
from mtmsa_lightning.data.tables import parquet
from mtmsa_lightning.data.tables.boxes import EDGES, single_box_column
from mtmsa_lightning.data.tables.classes import without_unknown
from mtmsa_lightning.data.tables.columns import choose_columns
from mtmsa_lightning.errors import DataError

log = logging.getLogger(__name__)

_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
_OPTIONAL = ("gender", "race", "subject", "fold", "split")


@dataclass(frozen=True)
class TableRows:
    """The used columns of a table.

    Attributes:
        path: Path of the table.
        rows: Texts by our names, with line numbers as index; "" for an unknown label. Optional columns that
            the table lacks are empty.
        names: The table's names of its used columns by ours.
        usual: Those of ``names`` that were neither given nor our own.
        unread_box: Name of a column that seems to hold whole face boxes, if no box is read.
    """

    path: Path
    rows: pd.DataFrame
    names: dict[str, str]
    usual: dict[str, str]
    unread_box: str | None = None

    def log_columns(self) -> None:
        """Log which columns are used, if any was found by a usual name; warn of boxes that are not read."""
        if self.usual:
            found = ", ".join(f"{ours} = {theirs!r}" for ours, theirs in self.usual.items())
            log.info("%s: columns: %s (others: --data.columns)", self.path, found)
        if self.unread_box:
            log.warning(
                "%s: column %r is not read: a face box needs four columns, such as %s",
                self.path, self.unread_box, ", ".join(EDGES[:4]),
            )  # fmt: skip


def read_rows(
    path: Path,
    columns: Mapping[str, str | None],
    report: ReadReport,
    unpack: Path | None = None,
    keep: Sequence[str] = (),
) -> TableRows:
    """Read the used columns of a table.

    Args:
        path: Path of the table: a text, or a parquet file; a pattern such as ``data/*.parquet`` for several.
        columns: See :func:`.columns.choose_columns`.
        report: Report to which the number of rows and bad rows are added.
        unpack: Folder for images that are in the table as bytes; their paths are relative to its parent.
            Without it they have no path.
        keep: Further columns of the table to read, without case; absent ones are left out.

    Raises:
        DataError: The table cannot be read, or a column is missing or not clear.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path, columns, report, unpack, keep)
    if path.suffix.lower() in _WORKBOOKS:
        raise DataError(f"{path}: is a workbook of a spreadsheet: save its table as CSV, in UTF-8")
    delimiter, header = sniff(path)
    names, usual = choose_columns(header, columns, path)
    cells = read_delimited(path, delimiter, [*dict.fromkeys(names.values())], report)
    return _used(path, cells, names, usual, header, keep)


def _read_parquet(
    path: Path,
    columns: Mapping[str, str | None],
    report: ReadReport,
    unpack: Path | None,
    keep: Sequence[str],
) -> TableRows:
    files = table_files(path)
    images = parquet.image_column(files)
    given = {"path": images, **columns} if images else columns
    header = parquet.header(files)
    names, usual = choose_columns(header, given, path)
    packed = images is not None and names["path"] == images
    used = dict.fromkeys([*names.values(), *_kept(header, keep).values()])
    wanted = [theirs for theirs in used if not (packed and theirs == images)]
    cells = parquet.read_texts(files, wanted)
    report.read += len(cells)
    if images is not None and packed:
        paths = parquet.unpack_images(files, images, unpack) if unpack else [""] * len(cells)
        cells = cells.assign(**{images: paths})
    if "split" not in names and "split" in cells and "split" not in columns:
        names["split"] = "split"
    return _used(path, cells, names, usual, header, keep)


def table_files(path: Path) -> list[Path]:
    """Return the sorted files of a table, whose name may be a pattern."""
    if not any(sign in path.name for sign in "*?["):
        return [path] if path.is_file() else []
    return sorted(file for file in path.parent.glob(path.name) if file.is_file())


def _kept(header: Sequence[str], keep: Sequence[str]) -> dict[str, str]:
    """Return the table's names of further columns by those that were asked for."""
    present = {name.lower(): name for name in reversed(header)}
    return {name: present[name.lower()] for name in keep if name.lower() in present}


def _used(
    path: Path,
    cells: pd.DataFrame,
    names: dict[str, str],
    usual: dict[str, str],
    header: Sequence[str],
    keep: Sequence[str],
) -> TableRows:
    """Return the used columns by our names, without unknown values."""
    if usual.get("subject", "").lower() == "id" and cells[usual["subject"]].is_unique:  # it numbers the rows
        del names["subject"], usual["subject"]
    columns = names | _kept(header, keep)
    ours = pd.DataFrame({name: cells[theirs].str.strip() for name, theirs in columns.items()}, cells.index)
    as_written = ["path", *(edge for edge in EDGES if edge in names)]
    labels = without_unknown(ours.drop(columns=as_written))
    absent = {name: "" for name in _OPTIONAL if name not in names}
    box = None if any(edge in names for edge in EDGES) else single_box_column(header)
    return TableRows(path, labels.join(ours[as_written]).assign(**absent), names, usual, box)
