"""The groups of people that a network is worse for than for all, from the tables of a report."""

from collections.abc import Mapping
from typing import Any

from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.reports.fairness_text import SIGNIFICANT

BY = ("age", "gender", "race", "gender x race")
"""Divisions whose groups are listed."""

METRICS = ("age_mae", "age_bias", "age_coverage90", "group_acc", "gender_acc", "race_acc")
"""Metrics that are listed, in this order."""

MOST = 8
"""Most groups per metric, the worst first."""

LEAST_BIAS = 1.0
"""Years of mean error from which a group counts as estimated too old or too young."""


def worse_groups(sources: Sources) -> list[tuple[str, ...]]:
    """Return rows of the groups that are significantly worse than all faces, per metric the worst first.

    The level is 5 %, corrected for the number of groups of a division. A bias is worse if it is farther from
    0 and at least :data:`LEAST_BIAS` years. Empty without a report.
    """
    found = sources.tables.get("subgroup_differences")
    rows = [] if found is None else [row for row in found.to_dict("records") if row["by"] in BY]
    return [
        shown
        for name in METRICS
        for shown in _worst(name, [row for row in rows if row["metric"] == name and _is_worse(name, row)])
    ]


def _is_worse(name: str, row: Mapping[Any, Any]) -> bool:
    if not row["p"] or float(row["p"]) >= SIGNIFICANT:
        return False
    value, everyone, difference = (float(row[key]) for key in ("value", "overall", "difference"))
    if name == "age_bias":
        return abs(value) >= max(LEAST_BIAS, abs(everyone))
    return difference > 0 if METRIC_BY_NAME[name].better == "lower" else difference < 0


def _worst(name: str, rows: list[dict[Any, Any]]) -> list[tuple[str, ...]]:
    """Return title, group, faces, value, interval and the value of all faces."""
    rows = sorted(rows, key=lambda row: -abs(float(row["difference"])))[:MOST]
    return [
        (
            METRIC_BY_NAME[name].title,
            _group(row),
            f"{int(row['faces']):,}",
            format_metric(name, float(row["value"])),
            format_interval(
                name, *(float(row[end]) if row[end] else float("nan") for end in ("low", "high"))
            ),
            format_metric(name, float(row["overall"])),
        )
        for row in rows
    ]


def _group(row: Mapping[Any, Any]) -> str:
    """Return the name of a group, such as ``female, white`` or ``age 20-29``."""
    age = f"age {row['age']}" if row["age"] else ""
    return ", ".join(filter(None, (row["gender"], row["race"], age)))
