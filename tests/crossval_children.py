"""Replacement for the processes of `mtmsa crossval`: they write run directories instead of training."""

import json
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from mtmsa_lightning import MORPH
from mtmsa_lightning.studies.crossval import Experiment

STUB = """
import json, shutil, sys
from pathlib import Path
job = json.loads(sys.argv[1])
print("epoch 1/1  train loss 1.000")
if job["fails"]:
    sys.exit("ValueError: no luck")
run = Path(job["run"])
(run / "predictions").mkdir(parents=True, exist_ok=True)
shutil.copy(job["predictions"], run / "predictions" / "test.parquet")
(run / "config.yaml").write_text(job["config"])
(run / "run.json").write_text(json.dumps(job["record"]))
"""


@cache
def data_of(root, fold, seed):
    """Return the data of a fold with its provenance, read once."""
    data = MORPH(root=str(root), image_size=64, crop=1.0, fold=fold, seed=seed, val_fraction=0.25)
    return data, data.provenance()


def predictions_of(data, fold, seed):
    """Return labels of a fold's test faces, and predictions drawn with the seed (fold, seed)."""
    faces = data.table.frame.iloc[data.split_of(fold).test].reset_index(drop=True)
    random = np.random.default_rng([fold, seed])
    table = pd.DataFrame({"id": faces["id"], "file": faces["path"], "subject": faces["subject"]})
    table = table.assign(label_age_low=faces["age_low"], label_age_high=faces["age_high"])
    table["label_gender"] = np.array(["male", "female", ""], object)[faces["gender"]]
    table["age_mean"] = faces["age_low"] + random.normal(0, 6, len(faces))
    male = random.uniform(size=len(faces))
    return table.assign(age_std=5.0, gender_male=male, gender_female=1 - male)


@pytest.fixture
def children(morph_root, tmp_path, monkeypatch):
    """Replaces the processes of crossval; see :func:`replace_children`."""
    return replace_children(morph_root, tmp_path, monkeypatch)


def replace_children(morph_root, tmp_path, monkeypatch):
    """Replace the processes of crossval.

    ``started`` lists it; ``failing`` says which trials fail, by the trial or by the name of its runs;
    ``years`` are added to the predictions of an experiment.
    """
    stub = SimpleNamespace(started=[], failing=set(), commands=[], names=[], years={})
    real_command = Experiment.command

    def command(experiment, trial):
        stub.started.append(str(trial))
        stub.commands.append(real_command(experiment, trial))
        name = str(trial)
        stub.names.append(experiment.name_of(trial))
        file = tmp_path / f"{len(stub.started)}.parquet"
        seed = experiment.settings["data"]["init_args"]["seed"]
        data, provenance = data_of(morph_root, trial.fold, seed)
        predictions = predictions_of(data, trial.fold, trial.seed)
        predictions["age_mean"] += stub.years.get(experiment.name, 0)
        predictions.to_parquet(file)
        time = f"2026-01-{len(stub.started):02d}"
        record = {
            "started": "2026-01-01T00:00:00", "finished": "2026-01-01T00:01:00", "failed": None, "epochs": 1,
            "best_epoch": 0, "test": {"test/age_mae": 1.0}, "data": provenance, "device": "cpu",
            "versions": {"torch": "2"}, "git_commit": "abc", "precision": "32-true",
        }  # fmt: skip
        job = {
            "fails": bool({name, stub.names[-1]} & stub.failing), "predictions": str(file), "record": record,
            "run": str(experiment.root / experiment.name_of(trial) / time),
            "config": yaml.safe_dump(experiment.settings_of(trial)),
        }  # fmt: skip
        return (sys.executable, "-IS", "-c", STUB, json.dumps(job))  # starts in milliseconds

    monkeypatch.setattr(Experiment, "command", command)
    reports = "mtmsa_lightning.reports.folds_report.write_pooled_reports"  # seconds each; tested there
    monkeypatch.setattr(reports, lambda folder: [])
    return stub
