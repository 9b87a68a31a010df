"""The summary of a cross-validation as a table and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.strict_json import csv_cell
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.metrics.titles import format_metric, title
from mtmsa_lightning.reports.markdown import table


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
    folds, seeds = summary["folds"], summary["seeds"]
    of = f"of {len(summary['folds_of_protocol'])}" if folds != summary["folds_of_protocol"] else "(all)"
    lines = [
        f"# {summary['name']}: cross-validation",
        "",
        f"{summary['dataset']}, protocol {summary['protocol']}, split seed {summary['split_seed']}, "
        f"label rule {summary['label_rule']}; folds {_listed(folds)} {of}; seeds {_listed(seeds)}.",
        "",
    ]
    if fraction := summary["subjects_in_two_parts"]:
        lines += [f"{100 * fraction:.1f} % of the test images show a subject that was trained on.", ""]
    lines += [f"{note[0].upper()}{note[1:]}.\n" for note in summary["notes"]]
    if summary["missing"]:
        lines += ["Incomplete, these runs are missing:", ""]
        lines += [f"- fold {run['fold']}, seed {run['seed']}: {run['reason']}" for run in summary["missing"]]
        lines.append("")
    lines += [
        _metrics_table(summary),
        "",
        *_reading(summary),
        "",
        _runs_table(summary),
        "",
        *_footer(summary),
    ]
    return "\n".join(lines) + "\n"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values)) or "none"


def _metrics_table(summary: Mapping[str, Any]) -> str:
    folds, several = summary["folds"], len(summary["seeds"]) > 1
    spreads = {"over_seeds": "sd over seeds", "over_runs": "sd over runs"} if several else {}
    heads = ["metric", *(f"fold {fold}" for fold in folds), "mean ± sd over folds", *spreads.values()]
    rows = []
    for name, metric in summary["metrics"].items():
        cells = [title(name)]
        cells += [format_metric(name, metric["per_fold"].get(str(fold))) for fold in folds]
        mean, deviation = metric["mean"], metric["over_folds"]["sd_sample"]
        cells.append(f"{format_metric(name, mean)} ± {format_metric(name, deviation)}")
        cells += [format_metric(name, (metric[over] or {}).get("sd_sample")) for over in spreads]
        cells.append(_pooled_cell(name, summary["pooled"]["metrics"].get(name, {})))
        rows.append(cells)
    return table([*heads, "pooled [95 %]"], rows)


def _reading(summary: Mapping[str, Any]) -> list[str]:
    seeds = "" if len(summary["seeds"]) == 1 else ", each averaged over its seeds"
    folds, pooled = pluralize(len(summary["folds"]), "fold"), summary["pooled"]
    unit = (
        f"{pluralize(pooled['subjects'], 'subject')}"
        if pooled["subjects"]
        else "faces, no subject being known"
    )
    lines = [
        f"± is the sample standard deviation (n - 1) over {folds}{seeds}; the "
        "population standard deviation is in summary.json.",
        f"Pooled: all {pooled['faces']:,} test faces at once, with the percentile interval of "
        f"{pooled['bootstrap_draws']:,} bootstrap samples of {unit}.",
    ]
    if pooled["tested_more_than_once"]:
        again = pluralize(pooled["tested_more_than_once"], "row repeats", "rows repeat")
        lines.append(f"{again} a face that another fold tests as well.")
    return lines


def _runs_table(summary: Mapping[str, Any]) -> str:
    rows = []
    for run in summary["runs"]:
        best = "-" if run["best_epoch"] is None else f"{run['best_epoch'] + 1} of {run['epochs']}"
        fingerprint = run["fingerprints"]["test"][:16]
        rows.append([run["fold"], run["seed"], f"{run['faces']['test']:,}", fingerprint, best, run["run"]])
    return table(["fold", "seed", "test faces", "test fingerprint", "best epoch", "run"], rows)


def _footer(summary: Mapping[str, Any]) -> list[str]:
    versions = "; ".join(_listed([f"{k} {v}" for k, v in each.items()]) for each in summary["versions"])
    return [
        f"Classes: gender {_listed(summary['gender_classes'])}; race {_listed(summary['race_classes'])}. "
        f"Input {summary['image_size']} px, crop {summary['crop']:g}.",
        f"Versions: {versions}. Commit: {_listed(summary['git_commit'])}. "
        f"Device: {_listed(summary['device'])}, {_listed(summary['precision'])}.",
    ]


def _pooled_cell(name: str, pooled: Mapping[str, Any]) -> str:
    value, low, high = (format_metric(name, pooled.get(key)) for key in ("value", "low", "high"))
    return value if low == "-" else f"{value} [{low}, {high}]"
