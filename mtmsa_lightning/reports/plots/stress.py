"""Plot of the effect of changed photos."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def stress(rows: pd.DataFrame, legal_ages: Sequence[int]) -> "Figure":
    """Plot the change of estimated ages and the crossed legal ages, a line per change and severity.

    ``rows`` are those of all faces of :func:`.evaluation.stress.stress_table`.
    """
    figure = style.new_figure(2 * style.COLUMN, 1.5 + 0.15 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    names = [name.replace("_", " ") for name in rows["stress"]]
    gaps = np.cumsum([0.0, *(0.6 if a != b else 0.0 for a, b in pairwise(names))])
    at = np.arange(len(rows)) + gaps
    change = rows["change"].to_numpy(float)
    ends = np.stack([change - rows["change_low"], rows["change_high"] - change]).astype(float)
    bars = np.nan_to_num(ends.clip(min=0))
    left.errorbar(
        change, at, xerr=bars, fmt="o", color=style.BLUE, elinewidth=1, label="mean change, 95 % interval"
    )
    left.plot(rows["abs_change"], at, "s", color=style.VERMILLION, mfc="white", label="mean absolute change")
    left.axvline(0, color=style.GREY, linewidth=0.8)
    left.set_xlabel("change of age (years)")
    for legal, colour, marker in zip(legal_ages, style.SERIES, style.MARKERS, strict=False):
        right.plot(100 * rows[f"flip_{legal}"], at, marker, color=colour, label=f"{legal}", ms=3.5)
    right.set_xlim(left=0)
    right.set_xlabel("faces that cross the age (%)")
    left.set_yticks(at, [f"{name}, {text}" for name, text in zip(names, rows["amount"], strict=True)])
    left.set_ylim(at[-1] + 0.7, -0.7)
    style.write_count(right, int(rows["faces"].max()))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=1)
    handles, texts = right.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower right", ncols=3, title="legal age", handletextpad=0.1)
    return figure
