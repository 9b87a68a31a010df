"""The table of a study: metrics of variants, compared with the baseline and a recorded table."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.comparison import Contender, compare, plain_rows
from mtmsa_lightning.evaluation.face_scores import read_faces
from mtmsa_lightning.evaluation.folds import SHARED, distinct
from mtmsa_lightning.reports.comparison_text import verdict
from mtmsa_lightning.runs.recorded_settings import LENGTH, training_settings
from mtmsa_lightning.studies.definition import Study

QUOTED = (*SHARED, "folds", "seeds", "test_fingerprints")
"""Entries that the metrics of a variant must be quoted with."""

COMPARED = ("difference", "low", "high", "p", "p_holm", "verdict")
"""Columns of a comparison in the table."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A variant with a complete run; fold and seed in its settings are ignored."""

    configs: tuple[str, ...]
    folder: Path
    settings: dict[str, Any]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary of the cross-validation."""
        return dict(from_json(read_regular(self.folder / "summary.json")))

    def quoted(self) -> dict[str, Any]:
        """Return the entries that its metrics must be quoted with."""
        prints = {str(run["fold"]): run["fingerprints"]["test"] for run in self.summary["runs"]}
        return {key: {**self.summary, "test_fingerprints": prints}[key] for key in QUOTED}

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return the mean of every metric, and its sample standard deviation over the n runs."""
        found = {}
        for name, values in self.summary["metrics"].items():
            over = values["over_runs"]
            found[name] = {"mean": values["mean"], "sd": over["sd_sample"], "n": over["n"]}
        return found

    def contender(self, name: str) -> Contender:
        """Return its predictions for the seeds of the summary."""
        files = [self.folder / "predictions" / f"seed{seed}.parquet" for seed in self.summary["seeds"]]
        return Contender(name, [read_faces(file) for file in files], {})


def study_table(
    study: Study, variants: Mapping[str, Variant], recorded: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Build the table as plain values, with the differences from a ``recorded`` one.

    Returns:
        ``quoted_with`` (shared by all variants; differing entries are in the variant),
        ``settings`` of the first variant that change its metrics, and for every variant its ``configs``,
        ``missing`` runs, ``metrics`` (mean, sample sd over runs, their number) and ``against_baseline``
        (paired difference with interval, p and verdict, by metric; or None, with the reason in
        ``not_compared``); ``recorded``, the differences from the recorded table.
    """
    quotes = {name: variant.quoted() for name, variant in variants.items()}
    first = next(iter(quotes.values()))
    shared = {key: first[key] for key in first if all(quote[key] == first[key] for quote in quotes.values())}
    summaries = [variant.summary for variant in variants.values()]
    versions = {
        key: distinct(value for summary in summaries for value in summary[key])
        for key in ("versions", "git_commit", "device", "precision")
    }
    compared, reasons = against_baseline(study.baseline, variants)
    table: dict[str, Any] = {
        "study": study.name, "title": study.title, "base": study.base(), "configs": [*study.configs],
        "baseline": study.baseline, "quoted_with": shared, **versions,
        "settings": comparable(next(iter(variants.values())).settings),
        "not_run": [name for name in study.variants if name not in variants],
    }  # fmt: skip
    table["variants"] = {
        name: {
            "configs": [*variant.configs],
            "quoted_with": {key: value for key, value in quotes[name].items() if key not in shared},
            "missing": variant.summary["missing"],
            "metrics": variant.metrics(),
            "against_baseline": compared.get(name),
            "not_compared": reasons.get(name),
        }
        for name, variant in variants.items()
    }
    table["recorded"] = None if recorded is None else difference(recorded, table)
    return table


def against_baseline(
    baseline: str, variants: Mapping[str, Variant]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the differences of complete variants from the baseline by metric, and reasons for the others."""
    lacking = [name for name, variant in variants.items() if variant.summary["missing"]]
    if baseline not in variants or baseline in lacking:
        return {}, {name: "runs of the baseline are missing" for name in variants if name != baseline}
    reasons = dict.fromkeys(lacking, "runs are missing")
    ours, others = variants[baseline].contender(baseline), []
    for name, variant in variants.items():
        if name == baseline or name in lacking:
            continue
        if variant.quoted()["test_fingerprints"] == variants[baseline].quoted()["test_fingerprints"]:
            others.append(variant.contender(name))
        else:
            reasons[name] = "it was tested on other faces than the baseline"
    if not others:
        return {}, reasons
    try:
        table = compare(ours, others)
    except DataError as error:
        return {}, reasons | {other.name: str(error) for other in others}
    table["verdict"] = table.apply(verdict, axis=1)
    found: dict[str, dict[str, Any]] = {}
    for row in plain_rows(table):
        found.setdefault(row["run"], {})[row["metric"]] = {key: row[key] for key in COMPARED}
    return found, reasons


def difference(recorded: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a table differs from a recorded one: ``conditions``, ``cells`` and unmatched cells."""
    conditions = [
        text
        for key in ("configs", "quoted_with", "settings")
        for text in differences(recorded.get(key), table[key], key)
    ]
    then, now = _cells(recorded), _cells(table)
    cells: dict[str, dict[str, Any]] = {}
    for variant, metric in [cell for cell in now if cell in then]:
        old, new = then[variant, metric], now[variant, metric]
        values = {"recorded": old, "value": new, "difference": new - old}
        cells.setdefault(variant, {})[metric] = values
    unmatched = {"only_recorded": then.keys() - now.keys(), "only_here": now.keys() - then.keys()}
    return {"conditions": conditions, "cells": cells} | {
        key: sorted(map("/".join, names)) for key, names in unmatched.items()
    }


def comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that change metrics, without paths, devices, fold and seed."""
    learnt = training_settings(settings)
    learnt["trainer"] |= {key: settings["trainer"].get(key) for key in LENGTH}
    learnt["data"]["init_args"].pop("fold", None)
    return {key: value for key, value in learnt.items() if key not in ("name", "seed_everything")}


def _cells(table: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    return {
        (name, metric): values["mean"]
        for name, variant in table["variants"].items()
        for metric, values in variant["metrics"].items()
    }
