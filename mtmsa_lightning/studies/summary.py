"""Write the folder of a cross-validation: summary and pooled predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.atomic_write import write_table, write_text
from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.evaluation.folds import (
    Runs,
    agreed,
    distinct,
    pool,
    pooled_metrics,
    run_metrics,
    shared_subjects,
    spread,
)
from mtmsa_lightning.reports.folds_text import latex, markdown, rows
from mtmsa_lightning.runs.run_json import partial_note, read_record

VARYING = ("versions", "git_commit", "device", "precision")
"""Entries whose distinct values are listed."""


def write_crossval(
    folder: Path, name: str, runs: Runs, missing: Mapping[tuple[int, int], str], all_folds: Sequence[int]
) -> str:
    """Write the folder of a cross-validation, and return the summary as Markdown.

    Args:
        folder: The folder.
        name: The experiment's name.
        runs: Directory of the finished run of every (fold, seed).
        missing: Why the run of a (fold, seed) is missing.
        all_folds: All folds of the protocol.

    Raises:
        DataError: The runs differ in data, protocol, split seed, label rule or classes; nothing is written.
    """
    runs = dict(sorted(runs.items()))
    records = {key: read_record(run) for key, run in runs.items()}
    shared = agreed({runs[key]: record["data"] for key, record in records.items()})
    pooled = {seed: pool(runs, seed) for seed in sorted({seed for _, seed in runs})}
    summary: dict[str, Any] = {"name": name, **shared}
    summary |= {"folds_of_protocol": [*all_folds], "folds": sorted({fold for fold, _ in runs})}
    summary |= {"subjects_in_two_parts": shared_subjects([record["data"] for record in records.values()])}
    summary["notes"] = distinct(note for each in records.values() for note in each["data"].get("notes", []))
    summary |= {"overlap": [], "partial": []}
    for (fold, seed), record in records.items():
        run_name, note = f"fold {fold}, seed {seed}", partial_note(record, "test")
        summary["overlap"] += [f"{run_name}: {text}" for text in record.get("overlap", [])]
        summary["partial"] += [f"{run_name}: {note}"] if note else []
    summary["notes"] += summary["overlap"] + summary["partial"]
    lacking = [{"fold": fold, "seed": seed, "reason": why} for (fold, seed), why in missing.items()]
    summary |= {"seeds": [*pooled], "missing": lacking}
    summary |= {key: distinct(record.get(key) for record in records.values()) for key in VARYING}
    values = run_metrics(runs)
    by_run: Any = values.to_dict("index")
    summary["runs"] = [_run(key, run, records[key], by_run[key]) for key, run in runs.items()]
    summary["metrics"] = spread(values, complete=not missing)
    summary["pooled"] = pooled_metrics(pooled)
    for seed, table in pooled.items():
        write_table(table, folder / "predictions" / f"seed{seed}.parquet")
    text = markdown(summary)
    write_text(folder / "summary.json", to_json(summary, indent=2) + "\n")
    write_text(folder / "summary.csv", rows(summary).to_csv(index=False))
    write_text(folder / "summary.md", text)
    write_text(folder / "summary.tex", latex(summary))
    return text


def _run(
    key: tuple[int, int], run: Path, record: Mapping[str, Any], values: Mapping[str, float]
) -> dict[str, Any]:
    shown = {"fold": key[0], "seed": key[1], "run": str(Path(run.parent.name, run.name))}
    shown |= {name: record["data"][name] for name in ("fingerprints", "faces")}
    shown |= {name: record.get(name) for name in ("best_epoch", "epochs")}
    return shown | {"test": dict(values)}
