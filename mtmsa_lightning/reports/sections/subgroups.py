"""Metrics by gender, race and age."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.labels import GENDERS, RACES
from mtmsa_lightning.metrics.age import MIN_FACES
from mtmsa_lightning.metrics.suite import MetricSpec
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric, main_metric
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import classes as class_plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material) -> None:
    """Add the error by gender, race and age, and the largest gaps."""
    if report.subgroups is None:
        return
    report.page.section("Subgroups")
    table, gaps = report.subgroups
    report.write_table("subgroups", table)
    report.write_table("subgroup_gaps", gaps)
    shown = METRIC_BY_NAME[main_metric(table)]
    report.page.row([subgroup_map(report, table, shown)])
    gaps = gaps[gaps["metric"] == shown.name]
    if gaps.empty:
        report.page.text(f"No two groups of one kind have {MIN_FACES} faces or more: no gap is shown.")
        return
    caption = f"{shown.title}: largest gaps between groups of at least {MIN_FACES} faces"
    report.page.table(gap_table(gaps, shown), caption)


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
        f"(n = {faces:,}); groups of fewer than {MIN_FACES} faces show their number only."
    )
    return report.draw("subgroups", plot, caption)


def gap_table(gaps: pd.DataFrame, shown: MetricSpec) -> pd.DataFrame:
    """Return the largest gaps of a metric as a table of texts."""

    def end(name: str, value: float, faces: int) -> str:
        return f"{name}: {format_metric(shown.name, value)} ({pluralize(faces, 'face')})"

    rows = [
        {
            "groups by": gap["by"],
            "gap": format_metric(shown.name, gap["gap"]),
            "95 % interval": format_interval(shown.name, gap["gap_low"], gap["gap_high"]),
            "highest": end(gap["highest"], gap["highest_value"], gap["highest_faces"]),
            "lowest": end(gap["lowest"], gap["lowest_value"], gap["lowest_faces"]),
        }
        for gap in gaps.to_dict("records")
    ]
    return pd.DataFrame(rows)
