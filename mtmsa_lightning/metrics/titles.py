"""Titles and formats of metrics in tables, pages and messages."""

import math
from collections.abc import Container

from mtmsa_lightning.metrics.suite import METRICS, VOTE_METRICS

METRIC_BY_NAME = {spec.name: spec for spec in (*METRICS, *VOTE_METRICS)}
"""The metrics of the suite by name."""

CALIBRATION_TITLES = {"gender_nll": "gender NLL (nats)", "race_nll": "race NLL (nats)"}
"""Titles of metrics that only calibration uses."""


def main_metric(names: Container[str]) -> str:
    """Return the metric of age that pages show: the error of exact ages, else accuracy or NLL of groups."""
    return next((name for name in ("age_mae", "group_acc") if name in names), "age_interval_nll")


def title(name: str) -> str:
    """Return the title of a metric, or its name if it is unknown."""
    return METRIC_BY_NAME[name].title if name in METRIC_BY_NAME else CALIBRATION_TITLES.get(name, name)


def format_metric(name: str, value: float | None, absent: str = "-") -> str:
    """Format a metric, fractions in percent and others with two decimals; return ``absent`` for None."""
    if value is None:
        return absent
    if math.isnan(value):
        return "undefined"
    return f"{100 * value:z.1f} %" if _is_fraction(name) else f"{value:z.{_decimals(name)}f}"


def format_interval(name: str, low: float | None, high: float | None) -> str:
    """Format the ends of an interval of a metric; an empty text without one."""
    return (
        "" if low is None or math.isnan(low) else f"{format_metric(name, low)} to {format_metric(name, high)}"
    )


def format_difference(name: str, value: float) -> str:
    """Format the difference of two metrics with its sign; fractions in percentage points."""
    if math.isnan(value):
        return "undefined"
    return f"{100 * value:+z.1f}" if _is_fraction(name) else f"{value:+z.{_decimals(name)}f}"


def _decimals(name: str) -> int:
    return METRIC_BY_NAME[name].decimals if name in METRIC_BY_NAME else 2


def _is_fraction(name: str) -> bool:
    return name in METRIC_BY_NAME and METRIC_BY_NAME[name].fraction
