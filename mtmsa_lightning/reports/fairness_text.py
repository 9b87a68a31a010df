"""For which groups a model is worst and best: a sentence in plain words, and a table."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric

SHOWN = {
    "age_mae": "ages are estimated worst for",
    "group_acc": "age groups are right least often for",
    "gender_acc": "gender is right least often for",
    "race_acc": "race is right least often for",
}
"""Metrics that tell who a model is wrong for, and the words before their worst groups."""

SIGNIFICANT = 0.05
"""Level of significance."""

HEADS = (
    "metric", "groups by", "worst group", "faces", "value (95 %)", "compared with",
    "true difference (95 %)", "beyond chance",
)  # fmt: skip
"""Columns of :func:`rows`."""

EXPLAINED = (
    "Of each division of the faces the worst group, and the one that it is compared with: the best, of the "
    "bias (plus: estimated too old) the other extreme. Intervals of the true difference are corrected for "
    "the choice of both among all groups of the division; a difference is beyond chance if its interval is "
    "above 0."
)

Row = Mapping[Any, Any]


def opening(table: pd.DataFrame, gaps: pd.DataFrame) -> str:
    """Return a sentence on the worst groups of the divisions whose groups differ beyond chance.

    Args:
        table: The table of the same name of :class:`.evaluation.subgroups.Subgroups`.
        gaps: Likewise.
    """
    if gaps.empty:
        return "There are too few faces to compare groups."
    everyone = table.iloc[0]
    found = [
        f"{words} {' and '.join(worst)}, against {_with_unit(name, everyone[name])} for all faces"
        for name, words in SHOWN.items()
        if name in table and (worst := [_worst(name, row) for row in _to_name(gaps, name)])
    ]
    if not found:
        return "No groups by gender, race or age differ beyond chance."
    return f"It is worse for some groups than chance explains: {'; '.join(found)}."


def _to_name(gaps: pd.DataFrame, name: str) -> list[Row]:
    """Return the gaps of a metric beyond chance: those by one label, or else that by several."""
    found = [row for row in _chosen(gaps, name) if row["difference_low"] > 0]
    return [row for row in found if " x " not in row["by"]] or found


def _worst(name: str, row: Row) -> str:
    end = ends_of(name)[0]
    prefix = "age " if row["by"] == "age" else ""
    return f"{prefix}{row[f'{end}_name']} ({_with_unit(name, row[end])})"


def _with_unit(name: str, value: float) -> str:
    years = "" if METRIC_BY_NAME[name].fraction else " years"
    return f"{format_metric(name, value)}{years}"


def rows(table: pd.DataFrame, gaps: pd.DataFrame, brief: bool = False) -> list[tuple[str, ...]]:
    """Return a row per metric for all faces, and one per division for its worst group, by ``HEADS``.

    Arguments as for :func:`opening`; ``brief`` leaves out divisions whose groups do not differ beyond chance.
    """
    everyone = table.iloc[0].to_dict()
    found: list[tuple[str, ...]] = []
    for name in ("age_mae", "age_bias", *list(SHOWN)[1:]):
        if name not in table or math.isnan(everyone[name]):
            continue
        title, faces = METRIC_BY_NAME[name].title, int(everyone[f"{METRIC_BY_NAME[name].task}_faces"])
        value = _value(name, *(everyone[f"{name}{end}"] for end in ("", "_low", "_high")))
        found.append((title, "-", "all faces", f"{faces:,}", value, "-", "-", "-"))
        shown = [row for row in _chosen(gaps, name) if not brief or row["difference_low"] > 0]
        found += [(title, row["by"], *_compared(name, row)) for row in shown]
    return found


def _chosen(gaps: pd.DataFrame, name: str) -> list[Row]:
    """Return the gaps of a metric by one label, and that by several labels with the most groups."""
    every: list[Row] = [*gaps[gaps["metric"] == name].to_dict("records")]
    several = [row for row in every if " x " in row["by"]]
    finest = [max(several, key=lambda row: row["groups"])] if several else []
    return [row for row in every if " x " not in row["by"]] + finest


def _compared(name: str, row: Row) -> tuple[str, ...]:
    """Return the cells of a division: its worst group, the other one, and their difference."""
    worst, other = ends_of(name)
    if name == "age_bias" and abs(row[other]) > abs(row[worst]):
        worst, other = other, worst
    unit = "points" if METRIC_BY_NAME[name].fraction else "years"
    low, high = (format_metric(name, row[f"difference_{end}"]).removesuffix(" %") for end in ("low", "high"))
    return (
        row[f"{worst}_name"],
        f"{int(row[f'{worst}_faces']):,}",
        _value(name, *(row[f"{worst}{end}"] for end in ("", "_low", "_high"))),
        f"{row[f'{other}_name']} ({int(row[f'{other}_faces']):,}): {format_metric(name, row[other])}",
        f"{low} to {high} {unit}",
        "yes" if row["difference_low"] > 0 else "no",
    )


def _value(name: str, value: float, low: float, high: float) -> str:
    interval = format_interval(name, low, high)
    return f"{format_metric(name, value)} ({interval})" if interval else format_metric(name, value)


def ends_of(name: str) -> tuple[str, str]:
    """Return the columns of the worst and of the best group of a metric."""
    return (
        ("group_max", "group_min") if METRIC_BY_NAME[name].better == "lower" else ("group_min", "group_max")
    )


def not_judged(table: pd.DataFrame) -> Iterator[str]:
    """Yield how many groups of the finest division have no metrics, if any."""
    finest = table[table["by"] == table["by"].iloc[-1]]
    none = finest[finest["note"].str.startswith("no metrics: ")]
    if len(none) and len(table) > 1:
        least = none["note"].iloc[0].removeprefix("no metrics: ")
        faces = pluralize(int(none["faces"].sum()), "face")
        yield (
            f"Not judged: {len(none)} of {pluralize(len(finest), 'group')} by {finest['by'].iloc[0]}, which "
            f"have {least} each, {faces} together."
        )
