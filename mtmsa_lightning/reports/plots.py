"""Figures of a report: one function each, from numbers to a matplotlib ``Figure``.

All are drawn at the size at which a paper prints them (3.5 inches for one column, 7 for two) with texts of 8
points, in colours that colour-blind readers can tell apart (Okabe and Ito's; cividis for amounts), and say
how many faces they show. They use matplotlib without pyplot: no display, no global figures.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning._utils.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

COLUMN = 3.5
"""Width of one printed column in inches; two columns are twice as wide."""

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#767676",
)  # fmt: skip
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Series differ in shape too, for prints without colour."""

AMPLIFIED, DAMPED = "#E69F00", "#0072B2"
"""Colours of attention gates above and below 0, on the web page too."""

FAINTEST_SCALE = 0.1
"""Least gate, in size, that gets the deepest colour: what changes features by less than 10 % looks faint."""

STYLE: Any = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "figure.titlesize": 8, "font.family": "DejaVu Sans", "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5, "axes.axisbelow": True, "lines.linewidth": 1.3, "lines.markersize": 4,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "legend.framealpha": 0.85, "legend.edgecolor": "none",
    "svg.hashsalt": "mtmsa",
}  # fmt: skip

P = ParamSpec("P")


def _styled(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Draw in the style above and leave matplotlib's settings as they were."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _legend(figure: "Figure", axes: "Axes") -> None:
    """Put the legend of axes below all axes, where it covers nothing; the figure grows by its height."""
    handles, names = axes.get_legend_handles_labels()
    letters = 5 + max(map(len, names))  # with the handle
    columns = min(len(names), max(1, int(15 * figure.get_figwidth() // letters)))
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(names) // columns))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, borderaxespad=0.1)


def save(figure: "Figure", folder: Path, name: str, title: str = "") -> Path:
    """Write a figure as ``<name>.svg`` and, at 200 dpi, ``<name>.png``.

    The same figure always gives the same SVG, byte for byte.

    Args:
        figure: The figure.
        folder: Where to; it is made if it is not there.
        name: Name of the files.
        title: What the figure shows, written into the files.

    Returns:
        The SVG file.
    """
    import matplotlib

    metadata: dict[str, dict[str, Any]] = {"svg": {"Title": title, "Date": None}, "png": {"Title": title}}
    for kind, says in metadata.items():
        with matplotlib.rc_context(STYLE), replacing(folder / f"{name}.{kind}") as partial:
            figure.savefig(partial, format=kind, dpi=200, metadata=says)
            figure.set_layout_engine(
                "none"
            )  # keeps the layout that was found: finding it takes the most time
    return folder / f"{name}.svg"


# ------------------------------------------------------------------------ age


@_styled
def cumulative_score(thresholds: ArrayLike, shares: ArrayLike, faces: int) -> "Figure":
    """Draw the cumulative score: share of faces whose error is at most n years, over n.

    Args:
        thresholds: Tolerances n in years, ascending.
        shares: CS@n, 0 to 1.
        faces: Number of faces with an exact age.
    """
    figure = _figure(COLUMN, 2.6)
    axes = figure.add_subplot()
    x, y = np.asarray(thresholds, float), 100 * np.asarray(shares, float)
    axes.plot(x, y, color=BLUE, marker="o" if len(x) == 1 else None, clip_on=False)
    if 5 in x:
        score = y[x == 5][0]
        axes.plot([5, 5, 0], [0, score, score], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot([5], [score], "o", color=VERMILLION, clip_on=False)
        axes.set_title(f"CS@5 = {score:.1f} %", loc="left", color=VERMILLION)
    axes.set(xlim=(0, max(float(x.max()), 1)), ylim=(0, 100))
    axes.set(xlabel="absolute error n (years)", ylabel="faces with error ≤ n (%)")
    _say_count(axes, faces)
    return figure


@_styled
def predicted_against_true(true: ArrayLike, predicted: ArrayLike) -> "Figure":
    """Draw predicted against true age as counts in hexagons, with the line of perfect prediction.

    Args:
        true: Exact ages in years, ``(N,)``; faces without one (NaN) are left out.
        predicted: Predicted ages in years, ``(N,)``.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    x, y = np.asarray(true, float), np.asarray(predicted, float)
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    figure = _figure(COLUMN, 3.0)
    axes = figure.add_subplot()
    low, high = _age_range(np.concatenate([x, y]))
    margin = (high - low) / _HEXAGONS  # hexagons at the ends are drawn whole
    if len(x):
        hexagons = axes.hexbin(
            x, y, gridsize=(_HEXAGONS, 17), extent=(low, high, low, high), mincnt=1, cmap="cividis_r",
            linewidths=0.1,
        )  # fmt: skip
        cells = np.asarray(hexagons.get_array())
        hexagons.set_norm(LogNorm(1, max(float(cells.max()), 2)))
        if cells.min() < cells.max():
            bar = figure.colorbar(hexagons, ax=axes, label="faces per cell", shrink=0.8, pad=0.02)
            bar.ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            bar.ax.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_title(f"{pluralize(int(cells[0]), 'face')} per cell", loc="left", color=GREY)
    axes.plot([low, high], [low, high], color=VERMILLION, linewidth=1, label="prediction = age")
    ends = (low - margin, high + margin)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="true age (years)", ylabel="predicted age (years)")
    _legend(figure, axes)
    _say_count(axes, len(x))
    return figure


_HEXAGONS = 30
"""Hexagons side by side."""


def _age_range(ages: NDArray[np.float64]) -> tuple[float, float]:
    """Return a range in steps of five years that holds all ages."""
    if not len(ages):
        return 0.0, 10.0
    low, high = 5 * np.floor(ages.min() / 5), 5 * np.ceil(ages.max() / 5)
    return float(low), float(max(high, low + 10))


class ErrorByAge(NamedTuple):
    """Errors of age in ranges of age, one entry each; NaN where there are too few faces.

    Attributes:
        names: Names of the ranges, such as ``20-29``.
        counts: Faces.
        mae: Mean absolute error in years.
        low: Lower end of its interval.
        high: Upper end.
        bias: Mean of prediction minus age in years.
    """

    names: Sequence[str]
    counts: ArrayLike
    mae: ArrayLike
    low: ArrayLike
    high: ArrayLike
    bias: ArrayLike


@_styled
def error_by_age(errors: ErrorByAge, interval: str = "95 % interval") -> "Figure":
    """Draw mean absolute error with its interval, and bias, over ranges of true age.

    Args:
        errors: The figures.
        interval: What the bars are.
    """
    figure = _figure(COLUMN, 3.1)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    at = np.arange(len(errors.names))
    mae, low, high = (np.asarray(values, float) for values in (errors.mae, errors.low, errors.high))
    bars = np.nan_to_num(np.stack([mae - low, high - mae]).clip(min=0))
    upper.errorbar(
        at, mae, yerr=bars, fmt="o", color=BLUE, capsize=2, elinewidth=1, label=f"MAE with {interval}"
    )
    upper.plot(at, np.asarray(errors.bias, float), "s", color=VERMILLION, mfc="white", label="bias")
    upper.axhline(0, color=GREY, linewidth=0.8)
    upper.set_ylabel("error (years)")
    _legend(figure, upper)
    counts = np.asarray(errors.counts, float)
    lower.bar(at, counts, color=GREY, width=0.7)
    lower.set(ylabel="faces", xlabel="true age (years)", xlim=(-0.6, max(len(at), 1) - 0.4))
    _name_columns(lower, errors.names, turned=len(at) > 5)
    lower.grid(axis="x", visible=False)
    _say_count(upper, int(counts.sum()))
    return figure


@_styled
def interval_coverage(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    faces: int,
    points: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> "Figure":
    """Draw the reliability of age: how often the truth lies in central intervals, over their nominal share.

    Args:
        curves: Name to (nominal, empirical coverage), 0 to 1.
        faces: Number of faces.
        points: Intervals of single levels, such as conformal ones: name to the like.
    """
    figure = _figure(COLUMN, 3.1)
    axes = figure.add_subplot()
    axes.plot(
        [0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle="--", label="perfect; below: overconfident"
    )
    for (name, (nominal, empirical)), colour in zip(curves.items(), SERIES, strict=False):
        axes.plot(
            100 * np.asarray(nominal, float), 100 * np.asarray(empirical, float), color=colour, label=name,
            marker="o" if np.size(nominal) == 1 else None, clip_on=False,
        )  # fmt: skip
    for (name, (target, found)), marker in zip((points or {}).items(), "D*P", strict=False):
        x, y = 100 * np.asarray(target, float), 100 * np.asarray(found, float)
        axes.plot(x, y, marker, color=BLACK, label=name, zorder=3, clip_on=False)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(xlabel="nominal coverage (%)", ylabel="empirical coverage (%)")
    _legend(figure, axes)
    _say_count(axes, faces)
    return figure


@_styled
def risk_coverage(
    coverage: ArrayLike, risk: ArrayLike, faces: int, ylabel: str, kept: float | None = None
) -> "Figure":
    """Draw the error of those faces that are kept when the least certain ones are left undecided.

    Args:
        coverage: Share of the faces that are kept, 0 to 1, ascending.
        risk: Their error.
        faces: Number of all faces.
        ylabel: What the error is, with its unit.
        kept: Share that the chosen threshold keeps.
    """
    figure = _figure(COLUMN, 2.6)
    axes = figure.add_subplot()
    x, y = 100 * np.asarray(coverage, float), np.asarray(risk, float)
    marker = "o" if len(x) == 1 else None
    axes.plot(x, y, color=BLUE, marker=marker, label="most certain first", clip_on=bool(len(x) > 1))
    if len(y):
        axes.axhline(y[-1], color=GREY, linewidth=0.8, linestyle="--", label="all faces, or a random choice")
        settled = y[x >= 5] if (x >= 5).any() else y  # the first few faces alone say nothing
        axes.set_ylim(0, 1.15 * float(np.nanmax(settled)) or 1)
    if kept is not None:
        says = f"threshold keeps {100 * kept:.0f} %"
        axes.axvline(100 * kept, color=VERMILLION, linewidth=1, label=says, clip_on=False)
    axes.set(xlim=(0, 100), xlabel="faces kept (%)", ylabel=ylabel)
    _legend(figure, axes)
    _say_count(axes, faces)
    return figure


# ------------------------------------------------------------------------ classes


@_styled
def class_reliability(
    confidence: ArrayLike, accuracy: ArrayLike, counts: ArrayLike, error: float, task: str
) -> "Figure":
    """Draw the accuracy over the confidence of the predicted class, in bins, and how many faces each holds.

    Args:
        confidence: Mean confidence of each bin, 0 to 1; NaN where it is empty.
        accuracy: Share of right predictions; NaN where it is empty.
        counts: Faces of each bin.
        error: Expected calibration error, 0 to 1.
        task: What is predicted.
    """
    confidence, accuracy = np.asarray(confidence, float), np.asarray(accuracy, float)
    counts = np.asarray(counts, float)
    filled = counts > 0
    figure = _figure(COLUMN, 3.3)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    upper.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle="--", label="perfectly calibrated")
    measured = "not defined" if np.isnan(error) else f"{100 * error:.1f} %"
    upper.plot(
        100 * confidence[filled], 100 * accuracy[filled], "o-", color=BLUE, label=f"{task} (ECE {measured})",
        clip_on=not filled.any(),
    )  # fmt: skip
    upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="right (%)")
    _legend(figure, upper)
    share = 100 * counts / max(counts.sum(), 1)
    width = 100 / max(len(counts), 15) * 0.6
    lower.bar(100 * confidence[filled], share[filled], width=width, color=GREY, clip_on=not filled.any())
    lower.set(ylim=(0, None if filled.any() else 100), xlabel="confidence (%)", ylabel="faces (%)")
    _say_count(upper, int(counts.sum()))
    return figure


@_styled
def confusion(matrix: ArrayLike, names: Sequence[str], axis: str = "class") -> "Figure":
    """Draw a confusion matrix: percent of each label's faces, with the counts.

    Args:
        matrix: Counts, ``(C, C)``: labels in rows, predictions in columns. Labels that no face has are not
            drawn, nor predictions of classes that no face has or gets.
        names: Names of the classes.
        axis: What the classes are.
    """
    counts = np.asarray(matrix, float)
    present = np.flatnonzero(counts.any(axis=1)) if counts.any() else np.arange(len(counts))
    known = np.union1d(present, np.flatnonzero(counts.any(axis=0)))
    labels, names = ([names[index] for index in kept.tolist()] for kept in (present, known))
    counts = counts[np.ix_(present, known)]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    width, height = (max(2.5, 1.3 + 0.44 * len(side)) for side in (names, labels))
    figure = _figure(width + 0.3, height)
    axes = figure.add_subplot()
    image = _cells(axes, shares, 0, 100, "Blues")
    for (row, column), share in np.ndenumerate(shares):
        if not np.isnan(share):
            text = f"{share:.0f}\n({_short(float(counts[row, column]))})" if share else "0"
            _cell_text(axes, row, column, text, share / 100)
    figure.colorbar(image, ax=axes, label="% of the label's faces", shrink=0.8, pad=0.02)
    _name_columns(axes, names, turned=len(names) > 3)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"predicted {axis}", ylabel=f"labelled {axis}")
    _say_count(axes, int(counts.sum()))
    return figure


# ------------------------------------------------------------------------ subgroups


@_styled
def subgroup_map(
    values: ArrayLike, counts: ArrayLike, rows: Sequence[str], columns: Sequence[str], label: str, faces: int
) -> "Figure":
    """Draw a figure for each subgroup; a cell without one (too few faces) shows its count only.

    Rows and columns without any face are left out.

    Args:
        values: The figure, ``(rows, columns)``; NaN for a cell that is left blank.
        counts: Faces, ``(rows, columns)``.
        rows: Names, such as ``female, black``.
        columns: Names, such as ``20-29``.
        label: What is shown, with its unit.
        faces: Number of all faces.
    """
    values, counts = np.asarray(values, float), np.asarray(counts, int)
    some, used = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    values, counts = values[np.ix_(some, used)], counts[np.ix_(some, used)]
    rows, columns = [rows[row] for row in some.tolist()], [columns[column] for column in used.tolist()]
    figure = _figure(2 * COLUMN, 0.9 + 0.36 * len(rows))
    axes = figure.add_subplot()
    shown = values[~np.isnan(values)]
    least, most = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)
    span = most - least or 1.0
    image = _cells(axes, values, least, least + span, "cividis_r")
    for (row, column), value in np.ndenumerate(values):
        count = f"({_short(float(counts[row, column]))})"
        if np.isnan(value):
            axes.text(
                column, row, count if counts[row, column] else "-", ha="center", va="center", color=GREY
            )
        else:
            _cell_text(axes, row, column, f"{value:z.1f}\n{count}", (value - least) / span)
    if most > least:
        figure.colorbar(image, ax=axes, label=label, pad=0.01, fraction=0.03)
    else:  # one colour, of which a scale would say nothing
        axes.set_title(label, loc="left")
    _name_columns(axes, columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("true age (years)")
    _say_count(axes, faces)
    return figure


def _cells(axes: "Axes", values: NDArray[np.float64], least: float, most: float, colours: str) -> Any:
    """Paint a matrix with white lines between its cells."""
    image = axes.imshow(values, cmap=colours, vmin=least, vmax=most, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    rows, columns = values.shape
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color="white", linewidth=1)
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color="white", linewidth=1)
    return image


def _short(count: float) -> str:
    """Write a count in four letters or fewer, so that it fits its cell; the tables have it whole."""
    if count < 1000:
        return f"{count:.0f}"
    return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


def _cell_text(axes: "Axes", row: int, column: int, text: str, darkness: float) -> None:
    colour = "white" if darkness > 0.5 else "black"
    axes.text(column, row, text, ha="center", va="center", color=colour, linespacing=0.95)


# ------------------------------------------------------------------------ attention


@_styled
def attention_maps(
    faces: Sequence[NDArray[np.uint8]], maps: Mapping[str, NDArray[np.floating[Any]]], titles: Sequence[str]
) -> "Figure":
    """Draw the gates of the attention modules over faces: above 0 amplifies a place, below 0 damps it.

    All maps have one scale, see :func:`gate_scale`; the largest gate of each module is written beside it.

    Args:
        faces: RGB faces, F times ``(height, width, 3)``.
        maps: Name of each module, such as ``stage 2``, to its gates averaged over channels, ``(F, h, w)``.
        titles: A short text above each face.
    """
    side = (2 * COLUMN - 0.9) / max(len(faces), 4)
    figure = _figure(2 * COLUMN, side * (1 + len(maps)) + 0.35)
    scale, colours = gate_scale(maps.values()), _gate_colours()
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(1 + len(maps), len(faces), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for axes, face, title in zip(grid[0], faces, titles, strict=True):
        axes.imshow(face)
        axes.set_title(title)
    for row, (name, gates) in zip(grid[1:], maps.items(), strict=True):
        for axes, face, gate in zip(row, faces, gates, strict=True):
            height, width = face.shape[:2]
            axes.imshow(face.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            image = axes.imshow(
                gate, cmap=colours, vmin=-scale, vmax=scale, interpolation="bilinear",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
        row[0].set_ylabel(f"{name}\nlargest {largest_gate(gates)}")
    if maps:
        figure.colorbar(image, ax=grid, label="gate", shrink=0.6, pad=0.01)
    return figure


def gate_scale(maps: Iterable[NDArray[np.floating[Any]]]) -> float:
    """Return the size of a gate that gets the deepest colour: the largest of all maps, 0.1 or more."""
    return max([FAINTEST_SCALE, *(float(np.abs(gates).max()) for gates in maps)])


def largest_gate(gates: NDArray[np.floating[Any]]) -> str:
    """Return the gate of a map that is the largest in size, with its sign, in two digits."""
    flat = np.ravel(gates)
    return f"{flat[np.abs(flat).argmax()]:+.2g}"


def _gate_colours() -> "Colormap":
    """Return colours of gates: clear at 0, so that the face is seen where a gate does little."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    ends = [to_rgba(DAMPED, 0.75), to_rgba(DAMPED, 0), to_rgba(AMPLIFIED, 0), to_rgba(AMPLIFIED, 0.75)]
    return LinearSegmentedColormap.from_list("gates", [*zip((0, 0.5, 0.5, 1), ends, strict=True)])


@_styled
def scale_weights(
    decades: Sequence[str], weights: Mapping[str, Mapping[str, ArrayLike]], faces: int
) -> "Figure":
    """Draw the mean weight of every dilation rate in each attention module over ranges of age.

    Args:
        decades: Names of the ranges of true age, D of them.
        weights: Name of each module to (name of each rate to its mean weights ``(D,)``, 0 to 1).
        faces: Number of faces behind the means.
    """
    figure = _figure(2 * COLUMN if len(weights) > 1 else COLUMN, 2.6)
    panels = figure.subplots(1, max(len(weights), 1), sharey=True, squeeze=False)[0]
    at = np.arange(len(decades))
    for axes, (module, by_rate) in zip(panels, weights.items(), strict=False):
        axes.axhline(100 / len(by_rate), color=GREY, linewidth=0.8, linestyle="--")
        for (rate, values), colour, marker in zip(by_rate.items(), SERIES, MARKERS, strict=False):
            axes.plot(at, 100 * np.asarray(values, float), color=colour, marker=marker, label=rate)
        _name_columns(axes, decades, turned=True)
        axes.set(xlabel="true age (years)", title=module)
    panels[0].set_ylabel("mean weight (%)")
    _legend(figure, panels[-1])
    _say_count(panels[0], faces)
    return figure


def _name_columns(axes: "Axes", names: Sequence[str], turned: bool = False) -> None:
    """Name the positions 0, 1, ... of the horizontal axis."""
    style: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(len(names)), names, **style)


def _say_count(axes: "Axes", faces: int) -> None:
    """Write the number of faces above the figure's upper right corner."""
    axes.set_title(f"n = {faces:,}", loc="right", color=GREY)
