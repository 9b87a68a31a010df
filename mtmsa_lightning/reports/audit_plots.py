"""Plots of an audit: numbers of faces, and thumbnails of the faces of a finding."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd

from mtmsa_lightning._utils.images import Image, UnreadableImageError, central_square, read_reduced
from mtmsa_lightning.align.box import box_rows, crop_box
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.splits.split import PARTS
from mtmsa_lightning.reports.html import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "train": "#0072B2", "val": "#E69F00", "test": "#009E73", "calibration": "#CC79A7", "unused": "#BBBBBB",
}  # fmt: skip
"""Colours of the parts, from Okabe and Ito's palette for colour-blind readers."""

THUMBNAIL = 112
IN_A_ROW = 3  # number of faces of a group that are shown


def draw_counts(counted: dict[str, pd.DataFrame]) -> bytes:
    """Return an SVG plot of the numbers of faces by age and class (``counts.counts``), stacked by part."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    others = [name for name in counted if name != "age"]
    widths = [max(2, len(counted[name])) for name in others]
    figure = Figure(figsize=(8.2, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, max(1, len(others)), width_ratios=widths or [1])
    if "age" in counted:
        _stack(figure.add_subplot(grid[0, :]), counted["age"], "age (completed years)")
    for column, name in enumerate(others):
        _stack(figure.add_subplot(grid[1, column]), counted[name], name)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), frameon=False, ncols=5, loc="outside lower center"
    )
    figure.axes[0].set_ylabel("faces")
    content = BytesIO()
    with rc_context({"svg.hashsalt": "mtmsa", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _stack(axes: "Axes", counted: pd.DataFrame, label: str) -> None:
    """Draw stacked bars; exact ages are placed on a numeric axis."""
    known = counted.drop(index="unknown", errors="ignore") if label.startswith("age") else counted
    years = label.startswith("age") and all(text.isdigit() for text in known.index)
    places: Any = known.index.astype(int) if years else range(len(known))
    bottom = np.zeros(len(known))
    for part in (*PARTS, "unused"):
        if part in known:
            axes.bar(places, known[part], 0.9, bottom, color=COLOURS[part], label=part, linewidth=0)
            bottom += known[part].to_numpy()
    if not years:
        axes.set_xticks(range(len(known)), known.index.tolist())
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)


def draw_groups(table: FaceTable, groups: Sequence[Sequence[int]], captions: Sequence[str]) -> list[Picture]:
    """Return pictures of the first faces of every group side by side; groups without any are skipped.

    ``groups`` are row positions; ``captions`` has one text for every row of the table.
    """
    pictures = []
    for number, rows in enumerate(groups, start=1):
        tiles = [tile for row in rows[:IN_A_ROW] if (tile := _tile(table, row)) is not None]
        if tiles:
            text = " | ".join(captions[row] for row in rows[:IN_A_ROW])
            more = f" and {len(rows) - IN_A_ROW} more" if len(rows) > IN_A_ROW else ""
            pictures.append(Picture.from_pixels(np.hstack(tiles), f"{number}. {text}{more}"))
    return pictures


def _tile(table: FaceTable, row: int) -> Image | None:
    try:
        image, factor = read_reduced(table.root / table.frame["path"].iloc[row])
    except UnreadableImageError:
        return None
    (box,) = box_rows(table.frame.iloc[[row]])
    image = image if box is None else crop_box(image, box, factor=factor)
    square = central_square(image, 1.0)
    small = cv2.resize(square, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
