"""Plots of class predictions, and metrics by subgroup."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def class_reliability(
    confidence: ArrayLike, accuracy: ArrayLike, counts: ArrayLike, error: float, task: str
) -> "Figure":
    """Plot accuracy over the confidence of the predicted class in bins, with the faces in each bin.

    Confidence and accuracy are 0 to 1, NaN for an empty bin; ``error`` is the expected calibration error.
    """
    confidence, accuracy = np.asarray(confidence, float), np.asarray(accuracy, float)
    counts = np.asarray(counts, float)
    filled = counts > 0
    figure = style.new_figure(style.COLUMN, 3.3)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    upper.plot(
        [0, 100], [0, 100], color=style.GREY, linewidth=0.8, linestyle="--", label="perfectly calibrated"
    )
    measured = "not defined" if np.isnan(error) else f"{100 * error:.1f} %"
    upper.plot(
        100 * confidence[filled], 100 * accuracy[filled], "o-", color=style.BLUE, clip_on=not filled.any(),
        label=f"{task} (ECE {measured})",
    )  # fmt: skip
    upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="right (%)")
    style.legend(figure, upper)
    fraction = 100 * counts / max(counts.sum(), 1)
    width = 100 / max(len(counts), 15) * 0.6
    lower.bar(
        100 * confidence[filled], fraction[filled], width=width, color=style.GREY, clip_on=not filled.any()
    )
    lower.set(ylim=(0, None if filled.any() else 100), xlabel="confidence (%)", ylabel="faces (%)")
    style.write_count(upper, int(counts.sum()))
    return figure


@style.styled
def confusion(matrix: ArrayLike, names: Sequence[str], axis: str = "class", min_faces: int = 1) -> "Figure":
    """Plot a confusion matrix in percent of each label's faces, with the counts.

    The matrix has counts, ``(C, C)``: labels in rows, predictions in columns. Labels that no face has are
    skipped, as are predictions of classes that no face has or gets. ``axis`` names the classes. Labels of
    fewer than ``min_faces`` faces show their counts only.
    """
    counts = np.asarray(matrix, float)
    present = np.flatnonzero(counts.any(axis=1)) if counts.any() else np.arange(len(counts))
    known = np.union1d(present, np.flatnonzero(counts.any(axis=0)))
    labels, names = ([names[index] for index in kept.tolist()] for kept in (present, known))
    counts = counts[np.ix_(present, known)]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(
        100 * counts, totals, out=np.full_like(counts, np.nan), where=totals >= max(1, min_faces)
    )
    width, height = (max(2.5, 1.3 + 0.44 * len(side)) for side in (names, labels))
    figure, axes = style.new_axes(width + 0.3, height)
    image = cells(axes, shares, 0, 100, "Blues")
    for (row, column), share in np.ndenumerate(shares):
        count = f"({_short(float(counts[row, column]))})" if counts[row, column] else "0"
        if not np.isnan(share):
            cell_text(axes, row, column, f"{share:.0f}\n{count}" if share else "0", share / 100)
        elif totals[row]:
            axes.text(column, row, count, ha="center", va="center", color=style.GREY)
    figure.colorbar(image, ax=axes, label="% of the label's faces", shrink=0.8, pad=0.02)
    style.name_columns(axes, names, turned=len(names) > 3)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"predicted {axis}", ylabel=f"labelled {axis}")
    style.write_count(axes, int(counts.sum()))
    return figure


@style.styled
def subgroup_map(
    values: ArrayLike, counts: ArrayLike, rows: Sequence[str], columns: Sequence[str], label: str, faces: int
) -> "Figure":
    """Plot a metric, NaN for too few faces, and the count of each subgroup, ``(rows, columns)``.

    Rows (such as ``female, black``) and columns (such as ``20-29``) without any face are skipped. ``label``
    names the metric with its unit.
    """
    values, counts = np.asarray(values, float), np.asarray(counts, int)
    some, used = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    values, counts = values[np.ix_(some, used)], counts[np.ix_(some, used)]
    rows, columns = [rows[row] for row in some.tolist()], [columns[column] for column in used.tolist()]
    figure, axes = style.new_axes(2 * style.COLUMN, 0.9 + 0.36 * len(rows))
    shown = values[~np.isnan(values)]
    least, most = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)
    span = most - least or 1.0
    image = cells(axes, values, least, least + span, "cividis_r")
    for (row, column), value in np.ndenumerate(values):
        count = f"({_short(float(counts[row, column]))})"
        if np.isnan(value):
            axes.text(
                column, row, count if counts[row, column] else "-", ha="center", va="center", color=style.GREY
            )
        else:
            cell_text(axes, row, column, f"{value:z.1f}\n{count}", (value - least) / span)
    if most > least:
        figure.colorbar(image, ax=axes, label=label, pad=0.01, fraction=0.03)
    else:  # a single colour needs no scale
        axes.set_title(label, loc="left")
    style.name_columns(axes, columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("true age (years)")
    style.write_count(axes, faces)
    return figure


def cells(axes: "Axes", values: NDArray[np.float64], least: float, most: float, colours: str) -> Any:
    """Draw a matrix as coloured cells with white lines between them."""
    image = axes.imshow(values, cmap=colours, vmin=least, vmax=most, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    rows, columns = values.shape
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color="white", linewidth=1)
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color="white", linewidth=1)
    return image


def _short(count: float) -> str:
    """Format a count in at most four characters, so that it fits its cell."""
    if count < 1000:
        return f"{count:.0f}"
    return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


def cell_text(axes: "Axes", row: int, column: int, text: str, darkness: float) -> None:
    """Write a text into a cell, in white on dark ones; ``darkness`` is 0 to 1."""
    colour = "white" if darkness > 0.5 else "black"
    axes.text(column, row, text, ha="center", va="center", color=colour, linespacing=0.95)
