"""A paired comparison as Markdown."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.splits.protocols import fingerprint
from mtmsa_lightning.evaluation.comparison import Contender
from mtmsa_lightning.evaluation.folds import average_scores, known_subjects
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_difference, format_metric, title
from mtmsa_lightning.reports.markdown import table as markdown_table

LEVEL = 0.05
"""Level of significance."""

QUOTED = ("dataset", "protocol", "split_seed", "label_rule", "folds", "seeds", "faces_seen")
"""Recorded facts of a side that are printed."""


def verdict(row: "pd.Series[Any]") -> str:
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


def markdown(baseline: Contender, others: Sequence[Contender], table: pd.DataFrame, draws: int) -> str:
    """Return the comparison as Markdown."""
    lines = [f"# Compared with {baseline.name}", ""]
    lines += [f"- {_quoted(provenance(each))}" for each in (baseline, *others)]
    for name, rows in table.groupby("run", sort=False):
        columns = ["metric", "baseline", "this run", "difference [95 %]", "p", ""]
        lines += ["", f"## {name}", "", markdown_table(columns, [_cells(row) for _, row in rows.iterrows()])]
    one_unit = table["subjects"].isna().all()
    unit = "faces, no subject being known" if one_unit else "subjects"
    corrected = f", corrected by Holm for {len(others)} runs (not for the metrics)" if len(others) > 1 else ""
    lines += [
        "",
        f"Differences are paired by face. Intervals: percentiles of {draws:,} bootstrap samples of {unit}. "
        f"p: paired permutation test, two-sided, the signs of {unit.split(',')[0]} flipped{corrected}.",
        "Both cover the random choice of test faces only, for these trained models; the variation between "
        "trainings is seen from several seeds.",
    ]
    return "\n".join(lines) + "\n"


def _quoted(side: dict[str, Any]) -> str:
    recorded = side["recorded"] or {}
    facts = [f"{key.replace('_', ' ')} {_plain(recorded[key])}" for key in QUOTED if key in recorded]
    facts = facts or ["protocol, label rule and seed are not recorded beside this table"]
    faces = pluralize(side["faces"], "face")
    return f"{side['run']}: {faces} [{side['test_fingerprint'][:16]}], {', '.join(facts)}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cells(row: "pd.Series[Any]") -> list[str]:
    name = row["metric"]
    signed = [format_difference(name, row[key]) for key in ("difference", "low", "high")]
    values = [format_metric(name, row[key]) for key in ("baseline", "value")]
    difference = f"{signed[0]} [{signed[1]}, {signed[2]}]"
    p = "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
    if math.isnan(row["p"]):
        difference, p = "-", "-"
    return [title(name), *values, difference, p, verdict(row)]
