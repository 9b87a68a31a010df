"""Plots of metrics by group of faces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COLOURS = {1: style.VERMILLION, 0: style.GREY, -1: style.BLUE}  # worse than all faces, no difference, better


@style.styled
def metrics_by_group(names: Sequence[str], metrics: "Sequence[tuple[str, bool, pd.DataFrame]]") -> "Figure":
    """Plot metrics of groups with their intervals, a row per group and a column per metric.

    Args:
        names: Names of the groups, from top to bottom.
        metrics: Of each metric its title, whether it is a fraction, and a row per name (NaN without one):
            ``value``, ``low``, ``high``, ``overall``, ``faces``, ``by``, and ``verdict``: 1 if significantly
            worse than all faces, -1 if better.
    """
    width = 1.7 + 1.9 * len(metrics)
    figure = style.new_figure(width, 0.75 + 0.175 * len(names))
    columns = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    at = np.arange(len(names))
    for axes, (title, fraction, rows) in zip(columns, metrics, strict=True):
        factor = 100 if fraction else 1
        value, low, high = (factor * rows[name].to_numpy(float) for name in ("value", "low", "high"))
        axes.axvline(factor * float(rows["overall"].max()), color=style.BLACK, linewidth=0.8)
        for verdict, colour in _COLOURS.items():
            chosen = (rows["verdict"] == verdict).to_numpy()
            bars = np.nan_to_num(np.stack([value - low, high - value])[:, chosen].clip(min=0))
            axes.errorbar(
                value[chosen], at[chosen], xerr=bars, fmt="o", color=colour, capsize=2, elinewidth=1,
                mfc=colour if verdict else "white",
            )  # fmt: skip
        axes.set(ylim=(len(names) - 0.4, -0.6))
        axes.set_xlabel(f"{title} (%)" if fraction else title)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    counted = metrics[0][2]
    for _, _, rows in metrics[1:]:
        counted = counted.combine_first(rows)
    counted = counted.loc[list(names)]
    columns[0].set_yticks(
        at, [f"{name} ({int(faces):,})" for name, faces in zip(names, counted["faces"], strict=True)]
    )
    for position in np.flatnonzero((counted["by"] != counted["by"].shift()).to_numpy())[1:]:
        for axes in columns:
            axes.axhline(position - 0.5, color=style.GREY, linewidth=0.5, linestyle=":")
    return figure
