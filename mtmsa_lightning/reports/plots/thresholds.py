"""Plots of decisions at legal ages."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = 3  # panels of a row
_BEFORE, _AFTER = 10, 15  # years around a legal age that are shown

_COLOURS = {
    "estimate": style.BLUE, "challenge": style.ORANGE, "interval": style.GREEN,
    "probability": style.PURPLE, "policy": style.BLACK,
}  # fmt: skip
_DASHES = {"estimate": "-", "challenge": "--", "interval": "-.", "probability": ":", "policy": "-"}

_FAINT = 0.3  # opacity of rates of too few faces

_PERCENTS = (0.1, 0.5, 2, 5, 10, 20, 40, 60, 80, 90, 95, 98)  # ticks of the DET curve


@style.styled
def passed_by_age(table: "pd.DataFrame", names: dict[str, str], min_faces: int = 1) -> "Figure":
    """Plot the fraction of faces that each rule takes for adults over true age, a panel per legal age.

    Left of the line at the legal age they are false positives, right of it true positives. The interval of
    the estimate alone is shown.

    Args:
        table: Rows ``age`` of :func:`~mtmsa_lightning.evaluation.thresholds.threshold_table`.
        names: Legend by rule.
        min_faces: Ages of fewer faces are drawn faint.
    """
    legal_ages = list(dict.fromkeys(table["legal_age"].tolist()))
    across = min(_ACROSS, len(legal_ages))
    down = -(-len(legal_ages) // across)
    figure = style.new_figure(2 * style.COLUMN, 2.1 * down)
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, legal_age in zip(panels, legal_ages, strict=False):
        _panel(axes, table[table["legal_age"] == legal_age], legal_age, names, min_faces)
    for axes in panels[len(legal_ages) :]:
        axes.remove()
    for first in range(0, len(legal_ages), across):
        panels[first].set_ylabel("taken for adults (%)")
    style.legend(figure, panels[0])
    return figure


def _panel(
    axes: "Axes", table: "pd.DataFrame", legal_age: int, names: dict[str, str], min_faces: int
) -> None:
    age = table["ages"].astype(float)
    shown = table[(age >= legal_age - _BEFORE) & (age < legal_age + _AFTER)]
    for rule, name in names.items():
        rows = shown[shown["rule"] == rule]
        years = rows["ages"].to_numpy(float)
        adult = years >= legal_age
        rate, low, high = (rows[column].to_numpy(float) for column in ("rate", "low", "high"))
        passed = 100 * np.where(adult, 1 - rate, rate)
        enough = rows["faces"].to_numpy() >= min_faces
        if not enough.all():
            axes.plot(years, passed, _DASHES[rule], color=_COLOURS[rule], alpha=_FAINT, linewidth=0.7)
        marker = "." if len(years) == 1 or not enough.all() else None
        settled = np.where(enough, passed, np.nan)
        axes.plot(years, settled, _DASHES[rule], color=_COLOURS[rule], label=name, marker=marker)
        if rule == "estimate":
            ends = 100 * np.where(adult, [1 - high, 1 - low], [low, high])
            axes.fill_between(years, *ends, color=_COLOURS[rule], alpha=0.15, linewidth=0)
    axes.axvline(legal_age - 0.5, color=style.VERMILLION, linewidth=1)
    axes.set_title(f"legal age {legal_age}", loc="left")
    axes.set(ylim=(0, 100), xlabel="true age (years)")


@style.styled
def challenge_curves(table: "pd.DataFrame") -> "Figure":
    """Plot ROC and DET curves over the challenge age, a curve per legal age with a mark at the legal age.

    ``table`` has the rows ``estimate`` of :func:`~mtmsa_lightning.evaluation.thresholds.challenge_table`.
    """
    figure = style.new_figure(2 * style.COLUMN, 2.9)
    roc, det = figure.subplots(1, 2)
    styles = zip(style.SERIES, style.MARKERS, strict=True)
    for (legal_age, rows), (colour, marker) in zip(
        table.groupby("legal_age", sort=False), styles, strict=False
    ):
        positive, true = (
            100 * rows[name].to_numpy() for name in ("false_positive_rate", "true_positive_rate")
        )
        start = rows["threshold"].to_numpy() == legal_age
        roc.plot(positive, true, color=colour, label=f"legal age {legal_age}")
        roc.plot(positive[start], true[start], marker, color=colour, clip_on=False)
        inside = (positive > 0) & (positive < 100) & (true > 0) & (true < 100)
        x, y = _probit(positive), _probit(100 - true)
        det.plot(x[inside], y[inside], color=colour)
        det.plot(x[inside & start], y[inside & start], marker, color=colour)
    roc.set(xlim=(0, 100), ylim=(0, 100), xlabel="minors taken for adults (%)")
    roc.set(ylabel="adults taken for adults (%)", title="ROC")
    ticks = _probit(np.array(_PERCENTS))
    names = [f"{percent:g}" for percent in _PERCENTS]
    det.set_xticks(ticks, names)
    det.set_yticks(ticks, names)
    det.set(xlim=(ticks[0], ticks[-3]), ylim=(ticks[0], ticks[-3]), title="DET")
    det.set(xlabel="minors taken for adults (%)", ylabel="adults not taken for adults (%)")
    style.legend(figure, roc)
    return figure


def _probit(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal deviates of percentages, infinite at 0 and 100."""
    from scipy.special import ndtri

    return np.asarray(ndtri(percent / 100), np.float64)
