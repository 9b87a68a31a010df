"""The summary of a cross-validation as a table and as Markdown."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.strict_json import csv_cell
from mtmsa_lightning.metrics.titles import format_metric, title
from mtmsa_lightning.reports.latex import table as latex_table
from mtmsa_lightning.reports.markdown import listed, render, table

_MOST_COLUMNS = 10
"""Number of folds above which the table of metrics has no column for each; summary.csv has all."""


def rows(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the summary as a table: a row per run, then the mean and the standard deviations."""
    metrics = summary["metrics"]
    quoted = {key: summary[key] for key in ("dataset", "protocol", "split_seed", "label_rule")}
    lines = [
        {"row": "run", "fold": run["fold"], "seed": run["seed"], **quoted}
        | {"faces": run["faces"]["test"], "test_fingerprint": run["fingerprints"]["test"]}
        | {name: csv_cell(run["test"].get(name)) for name in metrics}
        for run in summary["runs"]
    ]
    lines.append(
        {"row": "mean", **quoted} | {name: csv_cell(metric["mean"]) for name, metric in metrics.items()}
    )
    for over in ("over_folds", "over_seeds", "over_runs"):
        for kind in ("sd_sample", "sd_population"):
            values = {name: csv_cell((metric[over] or {}).get(kind)) for name, metric in metrics.items()}
            lines.append({"row": f"{kind}_{over}", **quoted} | values)
    return pd.DataFrame(lines).astype({"fold": "Int64", "seed": "Int64", "faces": "Int64"})


def markdown(summary: Mapping[str, Any]) -> str:
    """Return the summary as Markdown."""
    tables = {"metrics_table": table(*_metrics_table(summary)), "runs_table": _runs_table(summary)}
    return render("folds.md", s=summary, **tables)


def latex(summary: Mapping[str, Any]) -> str:
    """Return the table of metrics as LaTeX."""
    caption = (
        f"Cross-validation of {summary['name']} on {summary['dataset']}, protocol {summary['protocol']}, "
        f"split seed {summary['split_seed']}, label rule {summary['label_rule']}; folds "
        f"{listed(summary['folds'])} of {len(summary['folds_of_protocol'])}, seeds "
        f"{listed(summary['seeds'])}. ± is the sample standard deviation; pooled: all "
        f"{summary['pooled']['faces']:,} test faces with 95 % intervals."
    )
    prints = sorted({run["fingerprints"]["test"] for run in summary["runs"]})
    comments = "".join(f"% test fingerprint {each}\n" for each in prints)
    return comments + latex_table(*_metrics_table(summary), caption, "tab:crossval")


def _metrics_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of the table of metrics."""
    folds, several = summary["folds"], len(summary["seeds"]) > 1
    spreads = {"over_seeds": "sd over seeds", "over_runs": "sd over runs"} if several else {}
    shown = folds if len(folds) <= _MOST_COLUMNS else []
    heads = ["metric", *(f"fold {fold}" for fold in shown), "mean ± sd over folds", *spreads.values()]
    rows = []
    for name, metric in summary["metrics"].items():
        cells = [title(name)]
        cells += [format_metric(name, metric["per_fold"].get(str(fold))) for fold in shown]
        mean, deviation = metric["mean"], metric["over_folds"]["sd_sample"]
        cells.append(f"{format_metric(name, mean)} ± {format_metric(name, deviation)}")
        cells += [format_metric(name, (metric[over] or {}).get("sd_sample")) for over in spreads]
        cells.append(_pooled_cell(name, summary["pooled"]["metrics"].get(name, {})))
        rows.append(cells)
    return [*heads, "pooled [95 %]"], rows


def _runs_table(summary: Mapping[str, Any]) -> str:
    rows = []
    for run in summary["runs"]:
        best = "-" if run["best_epoch"] is None else f"{run['best_epoch'] + 1} of {run['epochs']}"
        fingerprint = run["fingerprints"]["test"][:16]
        rows.append([run["fold"], run["seed"], f"{run['faces']['test']:,}", fingerprint, best, run["run"]])
    return table(["fold", "seed", "test faces", "test fingerprint", "best epoch", "run"], rows)


def _pooled_cell(name: str, pooled: Mapping[str, Any]) -> str:
    value, low, high = (format_metric(name, pooled.get(key)) for key in ("value", "low", "high"))
    return value if low == "-" else f"{value} [{low}, {high}]"
