"""The table of a study as CSV and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.strict_json import csv_cell
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.metrics.titles import format_difference, format_metric, title
from mtmsa_lightning.reports.markdown import table as markdown_table

QUOTED = ("dataset", "protocol", "split_seed", "label_rule")
"""Columns of the CSV that every row repeats."""

LEVEL = 0.05
"""Level of significance."""


def rows(table: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table with a row per variant and metric."""
    found = []
    cells = (table["recorded"] or {}).get("cells", {})
    for name, variant in table["variants"].items():
        quoted = table["quoted_with"] | variant["quoted_with"]
        for metric, values in variant["metrics"].items():
            compared = (variant["against_baseline"] or {}).get(metric, {})
            old = cells.get(name, {}).get(metric, {})
            found.append(
                {"study": table["study"], "variant": name, "metric": metric}
                | {key: quoted[key] for key in QUOTED}
                | {key: csv_cell(value) for key, value in (values | compared).items()}
                | {"recorded": csv_cell(old.get("recorded"))}
                | {"from_recorded": csv_cell(old.get("difference"))}
            )  # fmt: skip
    return pd.DataFrame(found)


def markdown(table: Mapping[str, Any]) -> str:
    """Return the table of the headline metrics as Markdown; the other files have all metrics."""
    quoted = table["quoted_with"]
    metrics = [
        spec.name
        for spec in METRICS
        if spec.headline and any(spec.name in each["metrics"] for each in table["variants"].values())
    ]
    lines = [f"# {table['title']}", ""]
    names = {"dataset": "", "protocol": "protocol ", "split_seed": "split seed ", "label_rule": "label rule "}
    names |= {"folds": "folds ", "seeds": "seeds ", "image_size": "image size ", "crop": "crop "}
    lines.append(", ".join(text + _plain(quoted[key]) for key, text in names.items() if key in quoted) + ".")
    lines += ["", _table(table, metrics, _cell), "", *_reading(table)]
    if table["recorded"] is not None:
        lines += ["", "## Difference from the recorded table", "", *_recorded(table, metrics)]
    return "\n".join(lines) + "\n"


def _table(table: Mapping[str, Any], metrics: Sequence[str], cell: Any) -> str:
    columns = ["variant", "runs", *map(title, metrics)]
    body = [
        [name, str(max((values["n"] for values in variant["metrics"].values()), default=0))]
        + [cell(table, name, metric) for metric in metrics]
        for name, variant in table["variants"].items()
    ]
    return markdown_table(columns, body)


def _cell(table: Mapping[str, Any], variant: str, metric: str) -> str:
    values = table["variants"][variant]["metrics"].get(metric)
    if values is None:
        return "-"
    mean = format_metric(metric, values["mean"])
    spread = "" if values["sd"] is None else f" ± {format_metric(metric, values['sd'])}"
    compared = (table["variants"][variant]["against_baseline"] or {}).get(metric)
    significant = compared is not None and compared["p_holm"] is not None and compared["p_holm"] < LEVEL
    return mean + spread + ("*" if significant else "")


def _reading(table: Mapping[str, Any]) -> list[str]:
    others = [name for name, variant in table["variants"].items() if variant["against_baseline"]]
    holm = f", corrected by Holm for {len(others)} variants (not for the metrics)" if len(others) > 1 else ""
    lines = [
        "± is the sample standard deviation (n - 1) over the runs (folds and seeds together).",
        f"* differs from {table['baseline']} at {100 * LEVEL:.0f} %: paired permutation test on the same "
        f"test faces, signs flipped by subject where subjects are known{holm}. It covers the random choice "
        "of test faces, not the variation between trainings.",
    ]
    for name, variant in table["variants"].items():
        if variant["missing"]:
            lines.append(
                f"{name} is incomplete: {pluralize(len(variant['missing']), 'run is', 'runs are')} missing."
            )
        if variant["not_compared"]:
            lines.append(f"{name} is not compared with {table['baseline']}: {variant['not_compared']}.")
    if table["not_run"]:
        lines.append(f"Without a complete run: {', '.join(table['not_run'])}.")
    return [line for each in lines for line in (each, "")][:-1]


def _recorded(table: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    recorded = table["recorded"]

    def cell(table: Mapping[str, Any], variant: str, metric: str) -> str:
        found = recorded["cells"].get(variant, {}).get(metric)
        return "-" if found is None else format_difference(metric, found["difference"])

    lines = [_table(table, metrics, cell), "", "This table minus the recorded one."]
    if recorded["only_recorded"]:
        lines += ["", f"Recorded, but not here: {', '.join(recorded['only_recorded'])}."]
    if recorded["conditions"]:
        lines += ["", "Conditions differ:", "", *(f"- {text}" for text in recorded["conditions"])]
    return lines


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
