"""A paired comparison as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.splits.split import fingerprint
from mtmsa_lightning.evaluation.comparison import Contender, short_names
from mtmsa_lightning.evaluation.folds import average_scores, known_subjects
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_difference, format_metric, title
from mtmsa_lightning.reports.latex import table as latex_table
from mtmsa_lightning.reports.markdown import listed, render

LEVEL = 0.05  # level of significance

QUOTED = (
    "dataset", "protocol", "split_seed", "label_rule", "folds", "seeds", "faces_seen",
    "faces_without_prediction", "training_faces",
)  # fmt: skip
"""Recorded facts of a side that are printed."""


def verdict(row: "Mapping[Any, Any] | pd.Series[Any]") -> str:
    """Describe the result of a row of the comparison."""
    infinite = [math.isinf(row[side]) for side in ("baseline", "value")]
    if any(infinite):
        return f"{'both are' if all(infinite) else 'one is'} infinite: not tested"
    if not row["p_holm"] < LEVEL:
        return f"not significant at {100 * LEVEL:.0f} %"
    way = METRIC_BY_NAME[row["metric"]].better
    if way not in ("lower", "higher") or row["metric"].startswith("age_width"):
        # the metric has a target value, or depends on coverage like the width of intervals
        return f"different, significant at {100 * LEVEL:.0f} %"
    better = (row["difference"] > 0) == (way == "higher")
    return f"{'better' if better else 'worse'}, significant at {100 * LEVEL:.0f} %"


def provenance(contender: Contender) -> dict[str, Any]:
    """Return what the metrics of one side must be quoted with."""
    faces, _ = average_scores(contender.tables)
    return {
        "run": contender.name,
        "faces": len(faces),
        "subjects": known_subjects(faces),
        "test_fingerprint": fingerprint(set(faces["id"])),
        "recorded": contender.record or None,
    }


HEADS = ["metric", "baseline", "this run", "difference [95 %]", "p", ""]
"""Columns of the table of one model."""


def markdown(baseline: Contender, others: Sequence[Contender], table: pd.DataFrame, draws: int) -> str:
    """Return the comparison as Markdown."""
    return render(
        "comparison.md",
        baseline=baseline.name,
        sides=[quoted(provenance(each)) for each in (baseline, *others)],
        runs={
            name: [*map(cells, rows.to_dict("records"))] for name, rows in table.groupby("run", sort=False)
        },
        heads=HEADS,
        method=method(table, draws),
    )


def latex(baseline: Contender, others: Sequence[Contender], table: pd.DataFrame, draws: int) -> str:
    """Return one LaTeX table of all models: a row per metric, a column per model."""
    first_name, *names = short_names([baseline, *others])
    rows = []
    for metric, found in table.groupby("metric", sort=False):
        compared = {row["run"]: row for row in found.to_dict("records")}
        first = format_metric(str(metric), next(iter(compared.values()))["baseline"])
        rows.append([title(str(metric)), first, *(_cell(compared.get(each.name)) for each in others)])
    known = baseline.record
    on = f"{known['dataset']}, protocol {known.get('protocol', 'unknown')}. " if known.get("dataset") else ""
    caption = (
        f"{on}Differences to {first_name} in brackets with 95 % intervals; * significant at "
        f"{100 * LEVEL:.0f} %. {method(table, draws)}"
    )
    sides = "".join(f"% {quoted(provenance(each))}\n" for each in (baseline, *others))
    return sides + latex_table(["metric", first_name, *names], rows, caption, "tab:comparison")


def _cell(row: Mapping[Any, Any] | None) -> str:
    """Return the value of a model with its difference to the baseline."""
    if row is None:
        return "-"
    name, value = row["metric"], format_metric(row["metric"], row["value"])
    if math.isnan(row["p"]):
        return value
    difference, low, high = (format_difference(name, row[key]) for key in ("difference", "low", "high"))
    return f"{value} ({difference}, {low} to {high}){'*' if row['p_holm'] < LEVEL else ''}"


def method(table: pd.DataFrame, draws: int) -> str:
    """Describe intervals and p-values of a comparison."""
    known, others = table["subjects"].notna().any(), table["run"].nunique()
    units, flipped = ("subjects",) * 2 if known else ("faces, no subject being known", "faces")
    holm = f", corrected by Holm for {others} runs (not for the metrics)" if others > 1 else ""
    return (
        f"Differences are paired by face. Intervals: percentiles of {draws:,} bootstrap samples of {units}. "
        f"p: paired permutation test, two-sided, the signs of {flipped} flipped{holm}. "
        "Both cover the random choice of test faces only, for these trained models; the variation between "
        "trainings is seen from several seeds."
    )


def quoted(side: dict[str, Any]) -> str:
    """Describe a side in one line."""
    recorded = side["recorded"] or {}
    known = [key for key in QUOTED if key in recorded and recorded[key] not in (None, [None])]
    facts = [f"{key.replace('_', ' ')} {listed(recorded[key])}" for key in known]
    facts = facts or ["protocol, label rule and seed are not recorded beside this table"]
    faces = pluralize(side["faces"], "face")
    return f"{side['run']}: {faces} [{side['test_fingerprint'][:16]}], {', '.join(facts)}"


def cells(row: Mapping[Any, Any]) -> list[str]:
    """Return the row of a metric as texts, in the order of ``HEADS``."""
    name = row["metric"]
    signed = [format_difference(name, row[key]) for key in ("difference", "low", "high")]
    values = [format_metric(name, row[key]) for key in ("baseline", "value")]
    difference = f"{signed[0]} [{signed[1]}, {signed[2]}]"
    p = "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
    if math.isnan(row["p"]):
        difference, p = "-", "-"
    return [title(name), *values, difference, p, verdict(row)]
