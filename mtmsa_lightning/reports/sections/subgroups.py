"""Metrics by gender, race and age."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.labels import GENDERS, RACES
from mtmsa_lightning.metrics.suite import MetricSpec
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric, main_metric
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import classes as class_plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material) -> None:
    """Add the metrics by gender, race and age, and the differences between groups."""
    if report.subgroups is None:
        return
    report.page.section("Subgroups")
    found = report.subgroups
    report.write_table("subgroups", found.table)
    report.write_table("subgroup_gaps", found.gaps)
    if len(found.rates):
        report.write_table("subgroup_confusion", found.rates)
        report.write_table("equalised_odds", found.odds)
    if report.aged:
        shown = METRIC_BY_NAME[main_metric(found.table)]
        report.page.row([subgroup_map(report, found.table, shown)])
    if found.gaps.empty:
        least = pluralize(report.min_faces, "face")
        report.page.text(f"No two groups of one kind have {least} or more: no gap is shown.")
        return
    for name in (name for name in GAPS if name in set(found.gaps["metric"])):
        caption = (
            f"{METRIC_BY_NAME[name].title}: largest gaps between groups of at least {report.min_faces} faces"
        )
        report.page.table(gap_table(found.gaps[found.gaps["metric"] == name], name), caption)
    if len(found.odds):
        caption = "Equalised-odds difference: how much a rate of predictions differs between groups"
        report.page.table(odds_table(found.odds), caption)
    report.page.text(
        "Intervals of differences and ratios are those of the largest true difference, corrected for all "
        "pairs of groups. Tables: subgroups.csv (by group), subgroup_gaps.csv (difference, ratio, group_min, "
        "group_max), subgroup_differences.csv (every group against all faces), subgroup_confusion.csv, "
        "equalised_odds.csv."
    )


GAPS = ("age_mae", "age_bias", "group_acc", "gender_acc", "race_acc")
"""Metrics whose gaps are shown."""


def subgroup_map(report: Material, table: pd.DataFrame, shown: MetricSpec) -> Picture:
    """Plot a metric for every group: gender and race in rows, age in columns."""
    cells = table.set_index(["gender", "race", "age"])
    ages = sorted(set(table["age"]) - {""}, key=lambda name: [int(year) for year in name.split("-")])
    there = {column: set(table[column]) - {""} for column in ("gender", "race")}
    genders = [name for name in GENDERS if name in there["gender"]]
    races = sorted(there["race"], key=lambda name: (RACES.index(name) if name in RACES else len(RACES), name))
    pairs = [(gender, race) for gender in genders for race in races]
    people = [("", ""), *((gender, "") for gender in genders), *(("", race) for race in races), *pairs]

    def matrix(column: str, missing: float) -> NDArray[np.float64]:
        rows = [[cells[column].get((*row, age), missing) for age in ("", *ages)] for row in people]
        return np.array(rows, dtype=float)

    faces = int(table["faces"].iloc[0])
    title = f"{shown.title} (%)" if shown.fraction else shown.title
    values = matrix(shown.name, np.nan) * (100 if shown.fraction else 1)
    names = [", ".join(filter(None, row)) or "all" for row in people]
    plot = class_plots.subgroup_map(values, matrix("faces", 0), names, ["all", *ages], title, faces)
    caption = (
        f"{title} by labelled gender, race and age, with the number of faces in brackets, k for thousands "
        f"(n = {faces:,}); groups of fewer than {report.min_faces} faces show their number only."
    )
    return report.draw("subgroups", plot, caption)


def gap_table(gaps: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the largest gaps of a metric as a table of texts."""
    rows = [
        {
            "groups by": gap["by"],
            "groups": str(gap["groups"]),
            "difference": format_metric(name, gap["difference"]),
            "95 % interval": format_interval(name, gap["difference_low"], gap["difference_high"]),
            "ratio": "-" if pd.isna(gap["ratio"]) else f"{gap['ratio']:.2f}",
            "highest": _end(name, gap, "group_max"),
            "lowest": _end(name, gap, "group_min"),
        }
        for gap in gaps.to_dict("records")
    ]
    return pd.DataFrame(rows)


def odds_table(odds: pd.DataFrame) -> pd.DataFrame:
    """Return the equalised-odds differences as a table of texts."""
    rows = [
        {
            "task": row["task"],
            "groups by": row["by"],
            "groups": str(row["groups"]),
            "difference": format_metric(f"{row['task']}_acc", row["difference"]),
            "95 % interval": format_interval(
                f"{row['task']}_acc", row["difference_low"], row["difference_high"]
            ),
            "of the rate": f"{row['label']} predicted as {row['predicted']}",
            "highest": _end(f"{row['task']}_acc", row, "group_max"),
            "lowest": _end(f"{row['task']}_acc", row, "group_min"),
        }
        for row in odds.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _end(name: str, row: dict[Any, Any], end: str) -> str:
    faces = pluralize(row[f"{end}_faces"], "face")
    return f"{row[f'{end}_name']}: {format_metric(name, row[end])} ({faces})"
