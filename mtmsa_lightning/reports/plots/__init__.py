"""Plots of a report: functions from numbers to a matplotlib ``Figure``, and :func:`save`.

They are drawn at the size at which a paper prints them (3.5 inches for one column, 7 for two) with texts of 8
points, in colours that colour-blind readers can distinguish (Okabe and Ito's; cividis for amounts), and show
the number of faces. They use matplotlib without pyplot: no display, no global state.
"""

from mtmsa_lightning.reports.plots.age import (
    ErrorByAge,
    cumulative_score,
    error_by_age,
    interval_coverage,
    predicted_against_true,
    risk_coverage,
)
from mtmsa_lightning.reports.plots.attention import (
    AMPLIFIED,
    DAMPED,
    attention_maps,
    gate_scale,
    largest_gate,
    scale_weights,
)
from mtmsa_lightning.reports.plots.classes import class_reliability, confusion, subgroup_map
from mtmsa_lightning.reports.plots.style import COLUMN, SERIES, STYLE, save

__all__ = [
    "AMPLIFIED",
    "COLUMN",
    "DAMPED",
    "SERIES",
    "STYLE",
    "ErrorByAge",
    "attention_maps",
    "class_reliability",
    "confusion",
    "cumulative_score",
    "error_by_age",
    "gate_scale",
    "interval_coverage",
    "largest_gate",
    "predicted_against_true",
    "risk_coverage",
    "save",
    "scale_weights",
    "subgroup_map",
]
