"""Reports on the pooled predictions of a cross-validation."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.splits.split import fingerprint
from mtmsa_lightning.reports.report import write_report
from mtmsa_lightning.reports.report_context import ReportContext

LABELS = ("id", "label_age_low", "label_age_high", "label_gender", "label_race")


def write_pooled_reports(folder: Path) -> list[Path]:
    """Write ``report-seed<s>/report.html`` for every seed of a cross-validation; return the pages."""
    summary = from_json(read_regular(folder / "summary.json"))
    pages = []
    for seed in summary["seeds"]:
        faces = pd.read_parquet(folder / "predictions" / f"seed{seed}.parquet")
        target = folder / f"report-seed{seed}"
        write_report(faces, target, pooled_context(summary, seed, faces))
        pages.append(target / "report.html")
    return pages


def pooled_context(summary: Mapping[str, Any], seed: int, faces: pd.DataFrame) -> ReportContext:
    """Return what the pooled metrics of a seed must be quoted with, from the content of ``summary.json``."""
    runs = [run for run in summary["runs"] if run["seed"] == seed]
    folds = ", ".join(str(run["fold"]) for run in runs)
    of = f"{folds} of {len(summary['folds_of_protocol'])}, pooled"
    labels = faces[[name for name in LABELS if name in faces]].astype("str")
    lines = ["\t".join(map(str, row)) for row in labels.itertuples(index=False)]  # NaN where missing
    prints = {"test": fingerprint(faces["id"]), "labels": fingerprint(lines)}
    repeated = int(faces["id"].duplicated().sum())
    unseen = "" if summary.get("overlap") else ", which was not trained on it"
    notes = [f"Every face is predicted by the model of its own test fold{unseen}.", *summary["notes"]]
    if repeated:
        notes.append(
            f"{pluralize(repeated, 'row repeats', 'rows repeat')} a face that another fold tests as well."
        )
    if len(runs) < len(summary["folds_of_protocol"]):
        notes.append("Folds of the protocol are missing: their faces are not in these metrics.")
    return ReportContext(
        title=f"{summary['name']}, cross-validation",
        data={**summary, "fold": of, "fingerprints": prints},
        checkpoint=f"the best of each run: {', '.join(run['run'] for run in runs)}",
        seed=seed,
        versions=summary["versions"][0],
        command=shlex.join(sys.argv),
        notes=tuple(notes),
    )
