import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.reports.folds_report import pooled_context, write_pooled_reports
from mtmsa_lightning.studies.summary import write_crossval

DATA = {
    "dataset": "morph", "protocol": "subject_exclusive", "split_seed": 3, "split_file": None,
    "label_rule": "morph table columns", "gender_classes": ["male", "female"], "race_classes": [],
    "age_groups": [], "image_size": 64, "crop": 0.85, "fingerprints": {"test": "f" * 64},
    "faces": {"test": 3}, "subjects_in_two_parts": 0.5, "notes": ["a drawn subset"],
}  # fmt: skip
ERRORS = {0: [1.0, -1.0, 1.0], 1: [3.0, -3.0, 3.0]}


@pytest.fixture
def crossval_folder(tmp_path):
    runs = {}
    for fold, errors in ERRORS.items():
        ages = np.array([20.0, 40.0, 60.0])
        faces = {"id": [f"morph/{fold}{n}" for n in range(3)], "subject": ["s", "s", ""]}
        faces |= {"label_age_low": ages, "label_age_high": ages, "age_mean": ages + errors, "age_std": 4.0}
        run = tmp_path / f"fold{fold}-seed0" / "time"
        (run / "predictions").mkdir(parents=True)
        pd.DataFrame(faces).to_parquet(run / "predictions" / "test.parquet")
        record = {"data": DATA, "versions": {"torch": "2"}, "git_commit": "abc", "device": "cpu"}
        (run / "run.json").write_text(json.dumps(record))
        runs[fold, 0] = run
    write_crossval(tmp_path / "crossval", "mine", runs, {}, [0, 1, 2])
    return tmp_path / "crossval"


def test_the_report_pools_the_folds_and_says_what_its_metrics_must_be_quoted_with(crossval_folder):
    (page,) = write_pooled_reports(crossval_folder)
    assert page == crossval_folder / "report-seed0" / "report.html"
    found = json.loads((page.parent / "metrics.json").read_text())
    assert found["scalars"]["age_mae"] == 2.0, "mean of 1 and 3 years"
    ids = sorted(f"morph/{fold}{n}" for fold in ERRORS for n in range(3))
    print_of_ids = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    quoted = found["quoted_with"]
    assert quoted["split fingerprint (test)"] == print_of_ids
    assert quoted["protocol"] == "subject_exclusive, fold 0, 1 of 3, pooled"
    assert (quoted["split seed"], quoted["seed of the run"]) == ("3", "0")
    assert len(quoted["label fingerprint"]) == 64
    text = page.read_text()
    for said in (
        "mine, cross-validation",
        "fold0-seed0/time",
        "Folds of the protocol are missing",
        "50.0 % of the test images show a subject that was trained on.",
        "a drawn subset",
        print_of_ids,
    ):
        assert said in text


def test_labels_change_the_fingerprint_of_labels_alone(crossval_folder):
    summary = json.loads((crossval_folder / "summary.json").read_text())
    faces = pd.read_parquet(crossval_folder / "predictions" / "seed0.parquet")
    before = pooled_context(summary, 0, faces).data["fingerprints"]
    after = pooled_context(summary, 0, faces.assign(label_age_low=1.0)).data["fingerprints"]
    assert before["test"] == after["test"]
    assert before["labels"] != after["labels"]


def test_faces_without_a_label_have_a_fingerprint_too(crossval_folder):
    summary = json.loads((crossval_folder / "summary.json").read_text())
    faces = pd.read_parquet(crossval_folder / "predictions" / "seed0.parquet")
    lines = [f"{face}\tnan\t{high}" for face, high in zip(faces["id"], faces["label_age_high"], strict=True)]
    prints = pooled_context(summary, 0, faces.assign(label_age_low=np.nan)).data["fingerprints"]
    assert prints["labels"] == hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
