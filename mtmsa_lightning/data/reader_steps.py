"""Steps that the readers of releases share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.file_access import open_regular
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.face_table import MAX_AGE, FaceTable, ReadReport, make_frame
from mtmsa_lightning.data.release_files import (
    ImageListing,
    expected_tree_error,
    find_file,
    list_images,
    listing_report,
    locate,
    read_delimited,
)
from mtmsa_lightning.errors import DataError


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Check an option of a reader.

    Raises:
        DataError: It is not one of the choices.
    """
    if value not in choices:
        raise DataError(f"data.{option} {value!r}: choose one of {', '.join(choices)}")


def image_rows(root: Path, tree: str) -> tuple[pd.DataFrame, ReadReport]:
    """Return the images of a release without a table: columns ``path`` and ``name``, and the report.

    The index is the position in the sorted listing, from 1. Names are in Unicode's form NFC.

    Raises:
        DataError: There is no image.
    """
    listing = list_images(root) if root.is_dir() else ImageListing(())
    if not len(listing):
        raise expected_tree_error(root, "no image", tree)
    paths = pd.Series([*listing], pd.RangeIndex(1, len(listing) + 1, name="line"), dtype="str")
    names = paths.str.rpartition("/")[2].str.normalize("NFC")
    return pd.DataFrame({"path": paths, "name": names}), listing_report(listing, root)


def choose_variant(rows: pd.DataFrame, report: ReadReport, chosen: "pd.Series[bool]") -> pd.DataFrame:
    """Return the images of the chosen variant of a release; the others do not count as read."""
    report.read -= int((~chosen).sum())
    return rows[chosen]


def parse_names(
    rows: pd.DataFrame, report: ReadReport, pattern: str, layout: str, column: str = "name"
) -> pd.DataFrame:
    """Add the named groups of a pattern as text columns; drop rows that it does not match.

    Args:
        rows: Rows with the column ``path``.
        report: Report to which dropped rows are added.
        pattern: Regular expression with named groups, none of which is optional.
        layout: The expected name, for the reason of dropping.
        column: Column that must match as a whole.
    """
    fields = rows[column].str.extract(f"^(?:{pattern})$")
    unmatched = fields.isna().any(axis=1)
    return report.drop_rows(rows.join(fields), unmatched, "path", f"name is not {layout}")


def keep_first(rows: pd.DataFrame, report: ReadReport, column: str = "name") -> pd.DataFrame:
    """Keep the first row of each name; a second copy of a release is often unpacked beside it."""
    return report.drop_rows(rows, rows[column].duplicated(), "path", "same name in another folder")


def read_parts(
    root: Path, files: Mapping[str, str], columns: Sequence[str], report: ReadReport, tree: str
) -> tuple[Path, pd.DataFrame]:
    """Read the tables of a release's parts as one.

    Args:
        root: Folder of the release; the tables may be in a subfolder.
        files: Names of the tables by the value of the column ``split``.
        columns: Required columns.
        report: Report to which rows are added.
        tree: Expected layout for error messages.

    Returns:
        The folder of the tables, and their required columns as stripped texts, with the column ``split``.

    Raises:
        DataError: A table or a column is missing.
    """
    found = {split: find_file(root, name) for split, name in files.items()}
    missing = [files[split] for split, path in found.items() if path is None]
    if missing:
        raise expected_tree_error(root, f"no {', '.join(missing)}", tree)
    paths = {split: path for split, path in found.items() if path is not None}
    parts = [
        read_delimited(path, ",", columns, report)[[*columns]].apply(lambda cells: cells.str.strip())
        for path in paths.values()
    ]
    rows = pd.concat([part.assign(split=split) for part, split in zip(parts, paths, strict=True)])
    return next(iter(paths.values())).parent, rows


def locate_images(
    rows: pd.DataFrame, base: Path, report: ReadReport, tree: str, column: str = "id"
) -> pd.DataFrame:
    """Add the column ``path`` with the image below ``base`` that ``column`` names; drop rows without one.

    Raises:
        DataError: No image is found.
    """
    absent = expected_tree_error(base, f"none of the {len(rows):,} images of {report.source}", tree)
    return locate(rows, column, list_images(base), report, absent)


def label_ages(
    rows: pd.DataFrame,
    ages: "pd.Series[float]",
    report: ReadReport,
    most: float = MAX_AGE,
    item: str = "path",
) -> pd.DataFrame:
    """Set ``age_low`` and ``age_high``; ages that are missing or outside 0 to ``most`` are unknown and noted.

    Rows that then have neither age nor gender nor race are dropped.
    """
    bad = ~ages.between(0, most)
    missing = ages.isna()
    report.note_rows(rows, missing, item, "age is missing")
    report.note_rows(rows, bad & ~missing, item, f"age is outside 0 to {most:g}: unknown")
    rows = rows.assign(age_low=ages.mask(bad), age_high=ages.mask(bad))
    classes = [rows[column] >= 0 for column in ("gender", "race") if column in rows]
    return report.drop_rows(
        rows, bad & ~pd.concat(classes, axis=1).any(axis=1) if classes else bad, item, "no label"
    )


def box_columns(rows: pd.DataFrame, report: ReadReport, edges: Sequence[str], margin: float) -> pd.DataFrame:
    """Add the columns ``BOX``; drop rows whose box is missing or empty.

    Args:
        rows: Rows with the column ``id``.
        report: Report to which dropped rows are added.
        edges: Columns with the left, top, right and bottom edge in pixels.
        margin: Margin to add on each side, as a fraction of the box's longer side.
    """
    left, top, right, bottom = (pd.to_numeric(rows[name], errors="coerce") for name in edges)
    added = margin * np.maximum(right - left, bottom - top)
    boxes = (left - added, top - added, right + added, bottom + added)
    rows = rows.assign(**dict(zip(BOX[:4], boxes, strict=True)), face_angle=0.0)
    return report.drop_rows(rows, ~((right > left) & (bottom > top)), "id", "face box is missing or empty")


def finish_table(
    rows: pd.DataFrame,
    root: Path,
    report: ReadReport,
    dataset: str,
    label_rule: str,
    strict: bool,
    race_classes: tuple[str, ...] = (),
    extra: Sequence[str] = (),
) -> FaceTable:
    """Return the face table of a reader's rows; see :class:`.FaceTable`, :func:`.make_frame`.

    Raises:
        DataError: No row was kept, or ``strict`` and a row was dropped.
    """
    report.finish(strict)
    frame = make_frame(rows, dataset, extra)
    return FaceTable(frame, root, dataset, label_rule, race_classes, report)


def read_struct(path: Path, name: str, fields: Sequence[str]) -> pd.DataFrame:
    """Read equally long fields of a struct in a .mat file as columns; cells with text become texts.

    The index is the position, from 1.

    Raises:
        DataError: The file cannot be read, or a field is missing.
    """
    import scipy.io  # slow to import

    try:
        with open_regular(path) as file:
            content = scipy.io.loadmat(file, variable_names=[name], squeeze_me=True)
    except Exception as error:  # scipy raises nearly anything for a damaged file
        raise DataError(f"{path}: cannot be read ({error}): copy it again") from error
    struct = content.get(name)
    missing = [field for field in fields if struct is None or field not in (struct.dtype.names or ())]
    if missing:
        raise DataError(f"{path}: the struct {name!r} has no {', '.join(missing)}: is it another file?")
    columns = {field: _column(np.atleast_1d(struct[field].item())) for field in fields}
    if len(set(map(len, columns.values()))) > 1:
        lengths = ", ".join(f"{field} {len(column):,}" for field, column in columns.items())
        raise DataError(f"{path}: the fields of {name!r} differ in length: {lengths}")
    return pd.DataFrame(columns, pd.RangeIndex(1, len(columns[fields[0]]) + 1, name="line"))


def _column(cells: "np.typing.NDArray[Any]") -> "np.typing.NDArray[Any] | list[str]":
    """Return numbers unchanged, and texts without the empty arrays that stand for empty cells."""
    return cells if cells.dtype != object else [cell if isinstance(cell, str) else "" for cell in cells]
