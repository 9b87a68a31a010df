"""For which groups a model is best and worst, in sentences for readers who are not engineers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric

SHOWN = {
    "age_mae": "Age: the mean error is {} years over",
    "group_acc": "Age group: right for {} of",
    "gender_acc": "Gender: right for {} of",
    "race_acc": "Race: right for {} of",
}
"""Metrics that tell who a model is wrong for, and how their sentence begins."""

SIGNIFICANT = 0.05
"""Level of significance."""


Row = Mapping[Any, Any]


def paragraphs(table: pd.DataFrame, gaps: pd.DataFrame, brief: bool = False) -> list[str]:
    """Return a paragraph per metric, one on the bias of ages, and one on groups too small to judge.

    Args:
        table: The table of the same name of :class:`.evaluation.subgroups.Subgroups`.
        gaps: Likewise.
        brief: Whether divisions whose groups do not differ beyond chance are left out.
    """
    everyone = table.iloc[0].to_dict()
    by_metric: dict[str, list[Row]] = {}
    for row in gaps.to_dict("records"):
        by_metric.setdefault(row["metric"], []).append(row)
    found = []
    for name in SHOWN:
        if name in table:
            rows = by_metric.get(name, [])
            found.append(
                _paragraph(name, everyone, [row for row in rows if not brief or row["difference_low"] > 0])
            )
        if name == "age_mae" and "age_bias" in by_metric:
            found.append(_bias(by_metric["age_bias"], brief))
    return [text for text in (*found, *_too_small(table)) if text]


def _paragraph(name: str, everyone: Row, gaps: list[Row]) -> str:
    """Describe a metric over all faces, and its best and worst groups by one label and by several."""
    if math.isnan(everyone[name]):
        return ""
    faces = int(everyone[f"{METRIC_BY_NAME[name].task}_faces"])
    interval = _ends(name, everyone[f"{name}_low"], everyone[f"{name}_high"])
    text = f"{SHOWN[name].format(format_metric(name, everyone[name]))} all {faces:,} faces{interval}."
    return " ".join([text, *(_gap(name, row) for row in _chosen(gaps))])


def _chosen(gaps: list[Row]) -> list[Row]:
    """Return the gaps by one label, and that by several labels with the most groups."""
    several = [row for row in gaps if " x " in row["by"]]
    finest = [max(several, key=lambda row: row["groups"])] if several else []
    return [row for row in gaps if " x " not in row["by"]] + finest


def _gap(name: str, row: Row) -> str:
    """Describe the worst and the best group of a division, and the interval of their true difference."""
    worst, best = (_group(name, row, end) for end in ends_of(name))
    unit = "percentage points" if METRIC_BY_NAME[name].fraction else "years"
    low, high = (format_metric(name, row[f"difference_{end}"]).removesuffix(" %") for end in ("low", "high"))
    chosen = f", corrected for the choice among {row['groups']} groups" if row["groups"] > 2 else ""
    if row["difference_low"] > 0:
        text = f"By {row['by']}, it is worst for {worst} and best for {best}{_times(name, row)}. The true "
        return f"{text}difference is {low} to {high} {unit} (95 %{chosen})."
    text = f"By {row['by']}, no groups differ beyond chance: the worst is {worst}, the best {best}. The true "
    return f"{text}difference is at most {high} {unit} (95 %{chosen})."


def ends_of(name: str) -> tuple[str, str]:
    """Return the columns of the worst and of the best group of a metric."""
    return (
        ("group_max", "group_min") if METRIC_BY_NAME[name].better == "lower" else ("group_min", "group_max")
    )


def _times(name: str, row: Row) -> str:
    """Return by how many times the worst error is larger."""
    if METRIC_BY_NAME[name].better == "lower" and not math.isnan(row["ratio"]):
        return f", {1 / row['ratio']:.1f} times as large"
    wrong = [1 - row[end] for end in ends_of(name)]
    return f", {wrong[0] / wrong[1]:.1f} times as many errors" if wrong[1] > 0 else ""


def _bias(gaps: list[Row], brief: bool) -> str:
    """Describe the shifts of ages that differ between groups beyond chance."""
    found = [row for row in _chosen(gaps) if row["difference_low"] > 0]
    if not found:
        return "" if brief else "No groups differ beyond chance in the mean shift of their ages."
    return " ".join(["Shift of ages (plus: estimated too old).", *map(_shift, found)])


def _shift(row: Row) -> str:
    low, high = (
        f"{row[f'{end}_name']} ({pluralize(int(row[f'{end}_faces']), 'face')}) by {row[end]:+z.1f} years"
        for end in ("group_min", "group_max")
    )
    ends = f"{row['difference_low']:.1f} to {row['difference_high']:.1f} years"
    chosen = f", corrected for the choice among {row['groups']} groups" if row["groups"] > 2 else ""
    return f"By {row['by']}: from {low} to {high}; the true difference is {ends} (95 %{chosen})."


def _too_small(table: pd.DataFrame) -> Iterator[str]:
    """Yield how many groups of the finest division have no metrics."""
    finest = table[table["by"] == table["by"].iloc[-1]]
    none = finest[finest["note"].str.startswith("no metrics: ")]
    if len(none) and len(table) > 1:
        least = none["note"].iloc[0].removeprefix("no metrics: ")
        faces = pluralize(int(none["faces"].sum()), "face")
        yield (
            f"Not judged: {len(none)} of {pluralize(len(finest), 'group')} by {finest['by'].iloc[0]}, which "
            f"have {least} each, {faces} together."
        )


def _group(name: str, row: Row, end: str) -> str:
    faces = pluralize(int(row[f"{end}_faces"]), "face")
    interval = _ends(name, row[f"{end}_low"], row[f"{end}_high"])
    unit = "" if METRIC_BY_NAME[name].fraction else " years"
    return f"{row[f'{end}_name']} ({faces}): {format_metric(name, row[end])}{unit}{interval}"


def _ends(name: str, low: float, high: float) -> str:
    text = format_interval(name, low, high)
    return f" ({text})" if text else ""
