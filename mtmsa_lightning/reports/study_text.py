"""The table of a study as CSV and as Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.strict_json import csv_cell
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.metrics.titles import format_difference, format_metric, title
from mtmsa_lightning.reports.comparison_text import LEVEL
from mtmsa_lightning.reports.markdown import listed, render
from mtmsa_lightning.reports.markdown import table as markdown_table

QUOTED = ("dataset", "protocol", "split_seed", "label_rule")  # columns of the CSV that every row repeats


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
    variants, recorded = table["variants"], table["recorded"]
    names = {"dataset": "", "protocol": "protocol ", "split_seed": "split seed ", "label_rule": "label rule "}
    names |= {"folds": "folds ", "seeds": "seeds ", "image_size": "image size ", "crop": "crop "}
    quoted = table["quoted_with"]

    def difference(name: str, metric: str) -> str:
        found = recorded["cells"].get(name, {}).get(metric)
        return "-" if found is None else format_difference(metric, found["difference"])

    return render(
        "study.md",
        t=table,
        quoted=", ".join(text + listed(quoted[key]) for key, text in names.items() if key in quoted),
        compared=sum(bool(variant["against_baseline"]) for variant in variants.values()),
        percent=f"{100 * LEVEL:.0f}",
        metrics_table=_table(variants, lambda name, metric: _cell(variants[name], metric)),
        recorded_table=_table(variants, difference) if recorded else "",
    )


def _table(variants: Mapping[str, Any], cell: Callable[[str, str], str]) -> str:
    used = {metric for variant in variants.values() for metric in variant["metrics"]}
    metrics = [spec.name for spec in METRICS if spec.headline and spec.name in used]
    rows = [
        [name, max((values["n"] for values in variant["metrics"].values()), default=0)]
        + [cell(name, metric) for metric in metrics]
        for name, variant in variants.items()
    ]
    return markdown_table(["variant", "runs", *map(title, metrics)], rows)


def _cell(variant: Mapping[str, Any], metric: str) -> str:
    values = variant["metrics"].get(metric)
    if values is None:
        return "-"
    mean = format_metric(metric, values["mean"])
    spread = "" if values["sd"] is None else f" ± {format_metric(metric, values['sd'])}"
    p = (variant["against_baseline"] or {}).get(metric, {}).get("p_holm")
    return mean + spread + ("*" if p is not None and p < LEVEL else "")
