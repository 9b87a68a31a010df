"""Plot of differences of age between two photos of one person."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@style.styled
def differences(rows: "pd.DataFrame", slope: float) -> "Figure":
    """Plot estimated against true differences of age, and the share of pairs in the wrong order.

    Args:
        rows: Rows of :func:`.evaluation.over_time.pairs.gap_table` without that of all pairs.
        slope: Slope of the estimated on the true difference of all pairs.
    """
    figure = style.new_figure(2 * style.COLUMN, 2.7)
    left, right = figure.subplots(1, 2)
    true, estimated, spread = (rows[name].to_numpy(float) for name in ("true", "estimated", "sd"))
    end = np.array([0.0, true[-1]])
    left.fill_between(
        true, estimated - spread, estimated + spread, color=style.BLUE, alpha=0.15, linewidth=0,
        label="± 1 standard deviation of a pair's error",
    )  # fmt: skip
    left.plot(end, end, color=style.GREY, linewidth=0.8, label="as the true one")
    left.plot(end, slope * end, "--", color=style.VERMILLION, label=f"{slope:z.2f} years per year")
    left.errorbar(
        true, estimated, yerr=_bars(rows, "estimated"), fmt="o", color=style.BLUE, elinewidth=1,
        label="mean, 95 % interval",
    )  # fmt: skip
    left.set(xlabel="true difference of age (years)", ylabel="estimated difference (years)")
    left.margins(0.06)
    wrong, bars = 100 * rows["wrong_order"].to_numpy(float), 100 * _bars(rows, "wrong_order")
    right.errorbar(
        np.arange(len(rows)), wrong, yerr=bars, fmt="o", color=style.BLUE, elinewidth=1, clip_on=False
    )
    right.axhline(50, color=style.GREY, linewidth=0.8)
    right.set_xlim(-0.5, len(rows) - 0.5)
    right.set_ylim(0, max(55.0, 1.05 * float((wrong + bars[1]).max())))
    style.name_columns(right, [name.replace(" or more", "+") for name in rows["gap"]])
    right.set(xlabel="true difference of age (years)", ylabel="pairs in the wrong order (%)")
    right.set_title(f"n = {int(rows['pairs'].sum()):,} pairs", loc="right", color=style.GREY)
    style.legend(figure, left)
    return figure


def _bars(rows: "pd.DataFrame", name: str) -> NDArray[np.float64]:
    """Return the lengths of the error bars, ``(2, K)``; 0 without an interval."""
    values = rows[name]
    ends = [values - rows[f"{name}_low"], rows[f"{name}_high"] - values]
    bars: NDArray[np.float64] = np.nan_to_num(np.array(ends, np.float64).clip(min=0))
    return bars
