"""Face boxes in the columns of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.data.tables.classes import UNKNOWN
from mtmsa_lightning.errors import DataError

EDGES: tuple[str, ...] = ("box_left", "box_top", "box_right", "box_bottom", "box_width", "box_height")
"""Our names of the columns of a box in pixels: right and bottom, or width and height, beside left and top."""

_CORNERS, _SIZES = EDGES[:4], (*EDGES[:2], *EDGES[4:])
USUAL: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (_CORNERS, _CORNERS),
    (_SIZES, _SIZES),
    (_CORNERS, BOX[:4]),
    (_CORNERS, ("left", "top", "right", "bottom")),
    *((_CORNERS, tuple(f"{prefix}{name}" for name in names)) for prefix in ("", "face_", "box_", "bbox_")
      for names in (("x_min", "y_min", "x_max", "y_max"), ("xmin", "ymin", "xmax", "ymax"),
                    ("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1"))),
    (_SIZES, ("left", "top", "width", "height")),
    *((_SIZES, tuple(f"{prefix}{name}" for name in names)) for prefix in ("", "face_", "box_", "bbox_")
      for names in (("x", "y", "width", "height"), ("x", "y", "w", "h"))),
)  # fmt: skip
"""Four columns that hold a box, all of which must exist: our names and the table's."""

_SINGLE = ("box", "bbox", "face_box", "face_bbox", "bounding_box")


def box_columns(header: Sequence[str], path: Path) -> dict[str, str]:
    """Return the table's names of the columns of the box by ours; empty if there is no box.

    Raises:
        DataError: The header has two boxes.
    """
    present = {name.lower(): name for name in reversed(header)}
    found = [(ours, theirs) for ours, theirs in USUAL if all(name in present for name in theirs)]
    if len(found) > 1:
        raise DataError(
            f"{path}: both [{shown(found[0][1])}] and [{shown(found[1][1])}] may hold the face box: choose "
            f"one, e.g. --data.columns '{{box_left: {found[0][1][0]}, ...}}' with all four names"
        )
    return {our: present[their] for ours, theirs in found for our, their in zip(ours, theirs, strict=True)}


def single_box_column(header: Sequence[str]) -> str | None:
    """Return a column that may hold whole boxes, which are not read; None if there is none."""
    return next((name for name in header if name.lower() in _SINGLE), None)


def parse_boxes(
    rows: pd.DataFrame, report: ReadReport, names: Mapping[str, str], path: Path, margin: float = 0.0
) -> pd.DataFrame:
    """Add the columns ``align.box.BOX``; drop rows with an invalid box, note rows without one.

    Args:
        rows: Texts with line numbers as index; the columns of ``EDGES``, and ``photo``.
        report: Report to which rows are added.
        names: The table's names of the columns by ours, for messages.
        path: Path of the table, for messages.
        margin: Margin to add on each side, as a fraction of the box's longer side.

    Raises:
        DataError: Columns of the box are missing, or all boxes are fractions of the image.
    """
    given = [edge for edge in EDGES if edge in rows]
    if tuple(given) not in (_CORNERS, _SIZES):
        raise DataError(
            f"{path}: a face box needs {', '.join(_CORNERS)}, or {', '.join(_SIZES)}; given: "
            f"{', '.join(f'{name}: {names[name]}' for name in given)}"
        )
    none = rows[given].apply(lambda cells: cells.str.lower().isin(UNKNOWN)).all(axis=1)
    first, second, third, fourth = (_numbers(rows[edge]).mask(none) for edge in given)
    if given[-1] == "box_height":
        third, fourth = first + third, second + fourth
    full = (third > first) & (fourth > second)
    a, b, c, d = (rows[edge] for edge in given)
    item = rows["photo"] + ": box (" + a + ", " + b + ", " + c + ", " + d + ")"
    if full.any() and third[full].max() <= 1.5 and fourth[full].max() <= 1.5:
        line, text = next(iter(item[full].items()))
        raise DataError(
            f"{path}: line {line}: {text} is a fraction of the image, as all boxes are: multiply them by its "
            "width and height, because boxes are in pixels"
        )
    added = margin * pd.concat([third - first, fourth - second], axis=1).max(axis=1)
    corners = (first - added, second - added, third + added, fourth + added)
    edges = dict(zip(BOX, (*corners, third * 0), strict=True))  # no angle, NaN where none
    rows = rows.assign(**edges, item=item)
    report.note_rows(rows, none, "photo", "no face box: the whole image is used")
    return report.drop_rows(rows, ~full & ~none, "item", "face box is not four numbers")


def _numbers(cells: "pd.Series[str]") -> "pd.Series[float]":
    """Return plain decimal numbers, with a point or a comma; NaN for other texts."""
    plain = cells.str.fullmatch(r"[+-]?[0-9]{1,9}([.,][0-9]*)?").astype(bool)
    return cells.where(plain).str.replace(",", ".", regex=False).astype("float64")
