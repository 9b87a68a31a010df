"""The records that a model card is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.runs.checkpoints import weights_digest
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.runs.run_json import partial_note, read_record
from mtmsa_lightning.runs.status import recorded_seed, unfinished

AGAIN = "`mtmsa evaluate` measures them again"


@dataclass(frozen=True)
class Sources:
    """Records that a card is made from; empty where there are none.

    ``training`` and ``tested`` are ``run.json`` of the run, with the present name of its settings, and of the
    evaluation; ``metrics`` and ``tables`` (``metrics``, ``subgroups``, ``subgroup_gaps``,
    ``subgroup_differences``, ``thresholds``, ``age_errors``, with cells as texts) are those of the
    evaluation.
    """

    checkpoint: Mapping[str, Any]
    name: str
    training: Mapping[str, Any]
    seed: int | None
    tested: Mapping[str, Any]
    metrics: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Provenance of the checkpoint: its training data."""
        return self.checkpoint.get("provenance") or {}

    @cached_property
    def state_note(self) -> str:
        """A warning if the metrics belong to other weights or another calibration, or an empty text."""
        measured = self.tested if self.metrics else self.training
        weights = self.checkpoint.get("state_dict")
        if weights and measured.get("weights") not in (None, weights_digest(weights)):
            return "These metrics were measured with other weights than the checkpoint has."
        then, now = (
            None if record is None else Calibration.from_dict(record)
            for record in (measured.get("calibration"), self.checkpoint.get("calibration"))
        )
        if then == now:
            return ""
        if then is None:
            return f"These metrics are from before the calibration: {AGAIN}."
        if now is None:
            return f"These metrics were measured with a calibration that has been removed: {AGAIN}."
        return f"These metrics were measured with another calibration than the checkpoint has now: {AGAIN}."

    @property
    def warnings(self) -> list[str]:
        """Warnings that the metrics belong to another state, or to some faces of the test part only."""
        partial = partial_note(self.tested if self.metrics else self.training, "test")
        notes = [self.state_note, f"These metrics are {partial}." if partial else ""]
        return [note for note in notes if note]

    @property
    def title(self) -> str:
        """Name of the experiment, or of the file."""
        return str(self.training.get("name", self.name))


def read_sources(
    checkpoint: Mapping[str, Any], name: str, file: Path | None, evaluation: Path | None
) -> Sources:
    """Read what the run of a checkpoint and the report in ``evaluation`` (by default in the run) recorded."""
    run = run_of(file) if file else None
    if file and evaluation is None and run is not None:
        evaluation = run / evaluation_name(file)
    report = evaluation if evaluation is not None and (evaluation / "metrics.json").is_file() else None
    return Sources(
        checkpoint=checkpoint,
        name=name,
        training=_training_record(run) if run else {},
        seed=recorded_seed(run) if run else (checkpoint.get("provenance") or {}).get("seed"),
        tested=read_record(report) if report else {},
        metrics=from_json(read_regular(report / "metrics.json")) if report else {},
        tables=_tables(report) if report else {},
    )


def evaluation_name(file: Path) -> str:
    """Return the name of the folder in a run that holds the report on one of its checkpoints."""
    return "evaluation" if file.stem == "best" else f"evaluation-{file.stem}"


def _training_record(run: Path) -> dict[str, Any]:
    """Read ``run.json``; the name is that of the settings, which may have been changed since."""
    record, name = read_record(run), read_config(run).get("name")
    record |= {"epochs": unfinished(run) or record.get("epochs")}
    return record | {"name": name} if name else record


def _tables(report: Path) -> dict[str, pd.DataFrame]:
    """Read the tables of a report, each cell as its text."""
    names = ("metrics", "subgroups", "subgroup_gaps", "subgroup_differences", "thresholds", "age_errors")
    files = {name: report / "tables" / f"{name}.csv" for name in names}
    return {
        name: pd.read_csv(file, dtype=str, keep_default_na=False)
        for name, file in files.items()
        if file.is_file()
    }
