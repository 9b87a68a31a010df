import math
from types import SimpleNamespace

import pytest
import torch

from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.training.callbacks.checkpoints import logged_metrics
from mtmsa_lightning.training.callbacks.console import metrics_table


def test_metrics_of_the_stage_are_plain_and_undefined_ones_stay():
    metrics = {
        "val/age_mae": torch.tensor(4.5),
        "val/age_ence": torch.tensor(math.nan),
        "loss": torch.ones(()),
    }
    trainer = SimpleNamespace(callback_metrics=metrics | {"test/age_mae": torch.tensor(9.0)})
    found = logged_metrics(trainer, "val")
    assert found == {"val/age_mae": 4.5, "val/age_ence": pytest.approx(math.nan, nan_ok=True)}


def test_the_table_of_a_run_counts_the_faces_that_were_seen_and_shows_what_is_undefined():
    seen = {"val": {"faces": 20, "unreadable": 1, "of": 21}, "test": {"faces": 8, "unreadable": 0, "of": 15}}
    record = {"seen": seen, "val": {"val/age_mae": math.nan}, "test": {"test/age_mae": math.inf}}
    table = metrics_table(record, {"val": 21, "test": 15})
    assert "validation (n = 20)" in table
    assert "test (n = 8 of 15, partial)" in table
    (row,) = [line for line in table.splitlines() if "age MAE" in line]
    assert "undefined" in row
    assert "inf" in row


def test_the_table_of_a_run_shows_its_headline_and_fits_a_screen():
    record = {"test": {f"test/{spec.name}": 0.5 for spec in METRICS} | {"test/loss": 1.0}}
    table = metrics_table(record, {"test": 123})
    assert "n = 123" in table
    for spec in METRICS:
        assert (f"{spec.title} " in table) == spec.headline, spec.name
    assert len(table.splitlines()) <= 24
    row = next(line for line in table.splitlines() if "90 % interval, coverage" in line)
    assert "50.0 %" in row
