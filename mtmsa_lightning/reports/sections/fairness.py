"""Who the model is wrong for: the best and the worst groups."""

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.face_groups import DIMENSIONS
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.reports.fairness_text import (
    EXPLAINED,
    HEADS,
    SHOWN,
    SIGNIFICANT,
    ends_of,
    not_judged,
    opening,
    rows,
)
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import groups as group_plots
from mtmsa_lightning.reports.report_data import Material

EXTREMES = 3
"""Number of best and of worst groups of several labels that the plot shows, for each metric."""


def add_section(report: Material) -> None:
    """Add the worst and the best groups as a sentence, a table and a plot."""
    if report.subgroups is None:
        return
    report.page.section("Who it is wrong for")
    report.write_table("subgroup_differences", report.subgroups.differences)
    found = report.subgroups.table, report.subgroups.gaps
    report.page.text(opening(*found))
    report.page.table(pd.DataFrame(rows(*found), columns=HEADS), EXPLAINED)
    for text in not_judged(report.subgroups.table):
        report.page.text(text)
    if len(report.subgroups.differences):
        report.page.row([group_plot(report, report.subgroups.differences)])
    report.page.text(
        "Labels of gender and race are those of the dataset. Differences between groups may come from the "
        "number of training faces, from the pictures, from the labels, or from the ages of the faces, as "
        "errors are larger for old people; they tell who is served worse, not why."
    )


def group_plot(report: Material, differences: pd.DataFrame) -> Picture:
    """Plot the metrics of the groups of single labels, and of the best and worst of several labels."""
    rows = {
        name: _judged(differences[differences["metric"] == name], name)
        for name in SHOWN
        if name in set(differences["metric"])
    }
    shown = list(dict.fromkeys(label for found in rows.values() for label in _chosen(found)))
    plot = group_plots.metrics_by_group(
        shown,
        [
            (METRIC_BY_NAME[name].title, METRIC_BY_NAME[name].fraction, found.reindex(shown))
            for name, found in rows.items()
        ],
    )
    caption = (
        "Each group of one label, and the best and worst groups of several, with 95 % intervals over "
        f"{report.units}; the line is the value over all faces. Filled: differs from all faces (p < "
        f"{SIGNIFICANT}, corrected for the number of groups), red for worse and blue for better. Groups of "
        f"fewer than {report.min_faces} faces are not shown."
    )
    return report.draw("metrics_by_group", plot, caption)


def _judged(differences: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the groups of a metric by name, with ``worse`` and ``verdict``: 1 worse, 0 no difference, -1."""
    worse = differences["difference"] * (1 if ends_of(name)[0] == "group_max" else -1)
    verdict = np.where(differences["p"] < SIGNIFICANT, np.sign(worse), 0)
    labels = differences[[*DIMENSIONS]].to_numpy().tolist()
    return differences.assign(worse=worse, verdict=verdict).set_index(
        pd.Index([", ".join(filter(None, row)) for row in labels])
    )


def _chosen(found: pd.DataFrame) -> list[str]:
    """Return the groups of one label, then the worst and the best of the division with the most groups."""
    several = found["by"].str.contains(" x ")
    divisions = found["by"][several].value_counts(sort=False)
    most = found[found["by"] == divisions.idxmax()] if len(divisions) else found[several]
    ordered = most.sort_values("worse", ascending=False)
    count = min(EXTREMES, len(ordered) // 2)
    return [*found.index[~several], *ordered.index[:count], *ordered.index[len(ordered) - count :]]
