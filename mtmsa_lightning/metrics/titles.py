"""What metrics are called, and how they are written: in every table, page and message."""

import math

from mtmsa_lightning.metrics.suite import METRICS

METRIC_BY_NAME = {spec.name: spec for spec in METRICS}
"""The metrics of the suite by name."""


CALIBRATION_TITLES = {"gender_nll": "gender NLL (nats)", "race_nll": "race NLL (nats)"}
"""Metrics that calibration alone looks at."""


def title(name: str) -> str:
    """Return what a metric is called in tables; its name if it is unknown."""
    return METRIC_BY_NAME[name].title if name in METRIC_BY_NAME else CALIBRATION_TITLES.get(name, name)


def format_metric(name: str, value: float | None, absent: str = "-") -> str:
    """Format a metric: shares in percent, everything else with two decimals.

    Args:
        name: The metric.
        value: Its value; NaN where it is not defined, None where there is no such metric.
        absent: What is written for None.
    """
    if value is None:
        return absent
    if math.isnan(value):
        return "undefined"
    return f"{100 * value:z.1f} %" if _is_fraction(name) else f"{value:z.2f}"


def format_interval(name: str, low: float | None, high: float | None) -> str:
    """Format the ends of an interval of a metric; nothing where there is none."""
    return (
        "" if low is None or math.isnan(low) else f"{format_metric(name, low)} to {format_metric(name, high)}"
    )


def format_difference(name: str, value: float) -> str:
    """Format the difference of two metrics with its sign; shares in percentage points."""
    if math.isnan(value):
        return "undefined"
    return f"{100 * value:+z.1f}" if _is_fraction(name) else f"{value:+z.2f}"


def _is_fraction(name: str) -> bool:
    return name in METRIC_BY_NAME and METRIC_BY_NAME[name].fraction
