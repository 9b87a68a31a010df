"""The groups of people that a network is worse for, from the table of subgroups of a report."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.settings.defaults import MIN_FACES

BY = ("age", "gender", "race", "gender x race")
"""Divisions whose groups are compared with all faces."""

MOST = 8
"""Most groups per metric, the worst first."""

LEAST_BIAS = 1.0
"""Years of mean error from which a group counts as predicted too old or too young."""


class _Metric(NamedTuple):
    """A metric, and whether a group with this value and interval, given that of all faces, is worse."""

    name: str
    worse: Callable[[float, float, float, float], bool]


_METRICS = (
    _Metric("age_mae", lambda value, low, high, everyone: low > everyone),
    _Metric("age_bias", lambda value, low, high, everyone: abs(value) >= LEAST_BIAS and low * high > 0),
    _Metric("age_coverage90", lambda value, low, high, everyone: high < 0.9),
    _Metric("group_acc", lambda value, low, high, everyone: high < everyone),
    _Metric("gender_acc", lambda value, low, high, everyone: high < everyone),
    _Metric("race_acc", lambda value, low, high, everyone: high < everyone),
)


def failures(sources: Sources) -> dict[str, Any]:
    """Return the groups with a worse error, bias, coverage or accuracy, and those too small to be judged.

    A group is worse if its 95 % interval lies beyond the value for all faces; for the bias beyond 0, with a
    mean error of at least :data:`LEAST_BIAS` years; for the 90 % intervals below a coverage of 90 %.
    Empty without a report.
    """
    found = sources.tables.get("subgroups")
    if found is None:
        return {}
    table = found.to_dict("records")
    everyone, groups = table[0], [row for row in table if row["by"] in BY]
    rows = [
        (METRIC_BY_NAME[metric.name].title, *row)
        for metric in _METRICS
        if metric.name in everyone
        for row in _worse(metric, groups, everyone)
    ]
    small = [_name(row) for row in groups if int(row["faces"]) < MIN_FACES and row["by"] != "gender x race"]
    return {"rows": rows, "small": small, "min_faces": MIN_FACES, "least_bias": f"{LEAST_BIAS:g}"}


def _worse(
    metric: _Metric, groups: list[dict[Any, Any]], everyone: Mapping[Any, Any]
) -> list[tuple[str, ...]]:
    """Return rows of the groups that are worse, those farthest from the value for all faces first."""
    name, overall = metric.name, _number(everyone[metric.name])
    judged = []
    for row in groups:
        value, low, high = (_number(row.get(f"{name}{end}", "")) for end in ("", "_low", "_high"))
        if None not in (value, low, high, overall) and metric.worse(value, low, high, overall):  # type: ignore[arg-type]
            cells = _name(row), f"{int(row['faces']):,}", format_metric(name, value)
            shown = *cells, format_interval(name, low, high), format_metric(name, overall)
            judged.append((abs(value - overall), shown))  # type: ignore[operator]
    return [shown for _, shown in sorted(judged, key=lambda each: -each[0])[:MOST]]


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _name(row: Mapping[Any, Any]) -> str:
    """Return the name of a group, such as ``female, white`` or ``age 20-29``."""
    age = f"age {row['age']}" if row["age"] else ""
    return ", ".join(filter(None, (row["gender"], row["race"], age)))
