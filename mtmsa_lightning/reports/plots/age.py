"""Plots of predicted ages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@style.styled
def cumulative_score(thresholds: ArrayLike, fractions: ArrayLike, faces: int) -> "Figure":
    """Plot the cumulative score: the fraction (0 to 1) of faces with at most an error in years."""
    figure, axes = style.new_axes(style.COLUMN, 2.6)
    x, y = np.asarray(thresholds, float), 100 * np.asarray(fractions, float)
    axes.plot(x, y, color=style.BLUE, marker="o" if len(x) == 1 else None, clip_on=False)
    if 5 in x:
        score = y[x == 5][0]
        axes.plot([5, 5, 0], [0, score, score], color=style.GREY, linewidth=0.8, linestyle=":")
        axes.plot([5], [score], "o", color=style.VERMILLION, clip_on=False)
        axes.set_title(f"CS@5 = {score:.1f} %", loc="left", color=style.VERMILLION)
    axes.set(xlim=(0, max(float(x.max()), 1)), ylim=(0, 100))
    axes.set(xlabel="absolute error n (years)", ylabel="faces with error ≤ n (%)")
    style.write_count(axes, faces)
    return figure


@style.styled
def predicted_against_true(true: ArrayLike, predicted: ArrayLike) -> "Figure":
    """Plot predicted against true age, both in years and ``(N,)``, as counts in hexagons; NaN is skipped."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    x, y = np.asarray(true, float), np.asarray(predicted, float)
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    figure, axes = style.new_axes(style.COLUMN, 3.0)
    low, high = _age_range(np.concatenate([x, y]))
    margin = (high - low) / _HEXAGONS  # so that no hexagon is cut
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
            axes.set_title(f"{pluralize(int(cells[0]), 'face')} per cell", loc="left", color=style.GREY)
    axes.plot([low, high], [low, high], color=style.VERMILLION, linewidth=1, label="prediction = age")
    ends = (low - margin, high + margin)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="true age (years)", ylabel="predicted age (years)")
    style.legend(figure, axes)
    style.write_count(axes, len(x))
    return figure


_HEXAGONS = 30  # number of hexagons along the horizontal axis


def _age_range(ages: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of all ages, rounded outwards to five years."""
    if not len(ages):
        return 0.0, 10.0
    low, high = 5 * np.floor(ages.min() / 5), 5 * np.ceil(ages.max() / 5)
    return float(low), float(max(high, low + 10))


@style.styled
def error_by_age(errors: "pd.DataFrame") -> "Figure":
    """Plot mean absolute error with its interval, and bias, over ranges of true age.

    Columns are ``age`` (such as ``20-29``), ``faces``, and in years ``age_mae`` with ``age_mae_low`` and
    ``age_mae_high``, and ``age_bias``; NaN where there are too few faces.
    """
    figure = style.new_figure(style.COLUMN, 3.1)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    at = np.arange(len(errors))
    mae, low, high = (errors[f"age_mae{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    bars = np.nan_to_num(np.stack([mae - low, high - mae]).clip(min=0))
    upper.errorbar(
        at, mae, yerr=bars, fmt="o", color=style.BLUE, capsize=2, elinewidth=1, label="MAE with 95 % interval"
    )
    upper.plot(at, errors["age_bias"].to_numpy(float), "s", color=style.VERMILLION, mfc="white", label="bias")
    upper.axhline(0, color=style.GREY, linewidth=0.8)
    upper.set_ylabel("error (years)")
    style.legend(figure, upper)
    counts = errors["faces"].to_numpy(float)
    lower.bar(at, counts, color=style.GREY, width=0.7)
    lower.set(ylabel="faces", xlabel="true age (years)", xlim=(-0.6, max(len(at), 1) - 0.4))
    style.name_columns(lower, errors["age"].tolist(), turned=len(at) > 5)
    lower.grid(axis="x", visible=False)
    style.write_count(upper, int(counts.sum()))
    return figure


@style.styled
def interval_coverage(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    faces: int,
    points: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> "Figure":
    """Plot the empirical coverage of age intervals over their nominal coverage, both 0 to 1.

    ``curves`` has a pair of both by name; ``points`` has those of single levels, such as conformal ones.
    """
    figure, axes = style.new_axes(style.COLUMN, 3.1)
    axes.plot(
        [0, 100],
        [0, 100],
        color=style.GREY,
        linewidth=0.8,
        linestyle="--",
        label="perfect; below: overconfident",
    )
    for (name, (nominal, empirical)), colour in zip(curves.items(), style.SERIES, strict=False):
        axes.plot(
            100 * np.asarray(nominal, float), 100 * np.asarray(empirical, float), color=colour, label=name,
            marker="o" if np.size(nominal) == 1 else None, clip_on=False,
        )  # fmt: skip
    for (name, (target, found)), marker in zip((points or {}).items(), "D*P", strict=False):
        x, y = 100 * np.asarray(target, float), 100 * np.asarray(found, float)
        axes.plot(x, y, marker, color=style.BLACK, label=name, zorder=3, clip_on=False)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(xlabel="nominal coverage (%)", ylabel="empirical coverage (%)")
    style.legend(figure, axes)
    style.write_count(axes, faces)
    return figure


@style.styled
def risk_coverage(
    coverage: ArrayLike, risk: ArrayLike, faces: int, ylabel: str, kept: float | None = None
) -> "Figure":
    """Plot the error of the faces that are kept when the least certain ones are rejected.

    ``coverage`` is the fraction of faces kept, 0 to 1, ascending; ``risk`` their error, named ``ylabel`` with
    its unit; ``kept`` the fraction that the chosen threshold keeps.
    """
    figure, axes = style.new_axes(style.COLUMN, 2.6)
    x, y = 100 * np.asarray(coverage, float), np.asarray(risk, float)
    marker = "o" if len(x) == 1 else None
    axes.plot(x, y, color=style.BLUE, marker=marker, label="most certain first", clip_on=bool(len(x) > 1))
    if len(y):
        axes.axhline(
            y[-1], color=style.GREY, linewidth=0.8, linestyle="--", label="all faces, or a random choice"
        )
        settled = y[x >= 5] if (x >= 5).any() else y  # a few faces are too noisy to set the scale
        axes.set_ylim(0, 1.15 * float(np.nanmax(settled)) or 1)
    if kept is not None:
        text = f"threshold keeps {100 * kept:.0f} %"
        axes.axvline(100 * kept, color=style.VERMILLION, linewidth=1, label=text, clip_on=False)
    axes.set(xlim=(0, 100), xlabel="faces kept (%)", ylabel=ylabel)
    style.legend(figure, axes)
    style.write_count(axes, faces)
    return figure
