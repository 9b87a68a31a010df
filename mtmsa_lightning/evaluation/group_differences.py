"""Differences and ratios between groups of faces, corrected for the number of groups."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.face_groups import DIMENSIONS, Group
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, Floats
from mtmsa_lightning.evaluation.simultaneous import Family, largest_difference, simultaneous
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME

COMPARED = (
    "age_mae",
    "age_bias",
    "age_cs5",
    "age_coverage90",
    "group_acc",
    "group_acc_1off",
    "apparent_epsilon",
    "gender_acc",
    "race_acc",
)
"""Metrics of which every group is compared with all faces."""

_ENDS = ("group_max", "group_min")
GAP_COLUMNS = [
    "by", "metric", "groups", "difference", "difference_low", "difference_high",
    "ratio", "ratio_low", "ratio_high",
    *(f"{end}{part}" for end in _ENDS for part in ("", "_low", "_high", "_name", "_faces")),
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "by", *DIMENSIONS, "metric", "faces", "value", "low", "high",
    "overall", "difference", "difference_low", "difference_high", "p",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Groups:
    """Metrics of G groups, of which the first has all faces.

    Attributes:
        groups: The groups.
        names: Names of M metrics.
        points: The metrics ``(G, M)``; NaN for too few faces.
        drawn: For each group the metrics in bootstrap samples, ``(draws, M)``; all have the same samples.
        least_errors: Lower bounds of the standard errors, ``(G, M)``.
        ends: Both ends of the intervals, ``(G, M, 2)``.
        faces: For each group the number of faces by kind of label.
        subjects: Number of subjects of each group.
    """

    groups: list[Group]
    names: list[str]
    points: Floats
    drawn: list[Floats]
    least_errors: Floats
    ends: Floats
    faces: list[dict[str, int]]
    subjects: list[int]

    def compared(self, by: str, column: int) -> list[int]:
        """Return the groups of a division that have a metric, its samples, and enough subjects."""
        return [
            number
            for number, group in enumerate(self.groups)
            if group.by == by
            and np.isfinite(self.points[number, column])
            and self.subjects[number] >= MIN_CLUSTERS
            and np.isfinite(self.drawn[number][:, column]).any()
        ]

    def family(self, members: list[int], column: int) -> Family:
        """Return the values of a metric of some groups."""
        samples = np.stack([self.drawn[number][:, column] for number in members], axis=1)
        return Family(self.points[members, column], samples, self.least_errors[members, column])

    def divisions(self) -> list[str]:
        """Return the names of the divisions, without that of all faces."""
        return list(dict.fromkeys(group.by for group in self.groups if group.names))

    def count(self, number: int, name: str) -> int:
        """Return how many faces of a group a metric counts."""
        return self.faces[number][METRIC_BY_NAME[name].needs]


def gaps(groups: Groups, level: float) -> pd.DataFrame:
    """Return a row per division and headline metric with at least two groups to compare.

    The ``difference`` of the largest and the smallest value and the ``ratio`` of the smallest and the largest
    (of metrics with a natural zero), as fairlearn's ``MetricFrame.difference`` and ``ratio`` between groups,
    with simultaneous intervals (:func:`.simultaneous.largest_difference`), and both values ``group_max`` and
    ``group_min`` with the intervals, names and numbers of faces of their groups. ``groups`` is the number of
    groups compared: those with enough faces and subjects.
    """
    rows = []
    for by in groups.divisions():
        for column, name in enumerate(groups.names):
            members = groups.compared(by, column)
            if len(members) > 1 and METRIC_BY_NAME[name].headline:
                rows.append({"by": by, "metric": name} | _gap(groups, members, column, level))
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def _gap(groups: Groups, members: list[int], column: int, level: float) -> dict[str, Any]:
    family, name = groups.family(members, column), groups.names[column]
    found = largest_difference([family], level)
    row: dict[str, Any] = {"groups": len(members), "difference": found.value}
    most = 1.0 if METRIC_BY_NAME[name].fraction else np.inf
    row |= {"difference_low": found.low, "difference_high": min(most, found.high)}
    if _has_ratio(name) and (family.estimates > 0).all():
        positive = np.where(family.drawn > 0, family.drawn, np.nan)
        logarithms = Family(np.log(family.estimates), np.log(positive), family.least_error / family.estimates)
        ratio = largest_difference([logarithms], level)
        row |= {"ratio": np.exp(-ratio.value)}
        row |= {"ratio_low": np.exp(-ratio.high), "ratio_high": np.exp(-ratio.low)}
    for end, position in zip(_ENDS, (found.highest, found.lowest), strict=True):
        number = members[position]
        low, high = groups.ends[number, column]
        row |= {end: family.estimates[position], f"{end}_low": low, f"{end}_high": high}
        row |= {f"{end}_name": groups.groups[number].name, f"{end}_faces": groups.count(number, name)}
    return row


def _has_ratio(name: str) -> bool:
    """Return whether a metric has a natural zero, so that ratios have a meaning."""
    return METRIC_BY_NAME[name].better in ("lower", "higher") and not name.endswith("nll")


def to_overall(groups: Groups, level: float) -> pd.DataFrame:
    """Return every compared group's difference to all faces, a row per group and metric of ``COMPARED``.

    ``difference`` is the group's value minus that of all faces (fairlearn's ``to_overall``), with an interval
    and a p-value corrected for the number of groups in the division (:func:`.simultaneous.simultaneous`).
    """
    rows = []
    for name in (name for name in groups.names if name in COMPARED):
        column = groups.names.index(name)
        everyone = groups.family([0], column)
        for by in groups.divisions():
            members = groups.compared(by, column) if np.isfinite(everyone.estimates[0]) else []
            if len(members) < 2:
                continue
            family = groups.family(members, column)
            counts = np.array([groups.count(number, name) for number in members])
            found = simultaneous(
                family.estimates - everyone.estimates,
                family.drawn - everyone.drawn,
                family.least_error * (1 - counts / groups.count(0, name)),
                level,
            )
            for position, number in enumerate(members):
                low, high = groups.ends[number, column]
                rows.append({
                    "by": by, **groups.groups[number].labels(), "metric": name,
                    "faces": groups.count(number, name), "value": family.estimates[position],
                    "low": low, "high": high, "overall": everyone.estimates[0],
                    "difference": family.estimates[position] - everyone.estimates[0],
                    "difference_low": found.low[position], "difference_high": found.high[position],
                    "p": found.p[position],
                })  # fmt: skip
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)
