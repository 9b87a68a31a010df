"""A run that is told to stop by a signal, and is started again, ends as one that was left alone."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from mtmsa_lightning.cli import main
from mtmsa_lightning.module import MTMSA

FIT = ("--trainer.max_epochs", "2", "--test_after_fit", "true")
EXACT = (
    "--ema",
    "0.9",
    "--model.freeze_epochs",
    "1",
    "--model.weighting",
    "learned",
    "--data.num_workers",
    "1",
)
"""Dropout, augmentation and shuffling are on in any case."""


@pytest.fixture
def signal_at(monkeypatch):
    """Return what arranges for a signal to this process in the middle of a training step."""
    step = MTMSA.training_step

    def arrange(number: int, batch: int) -> None:
        seen = []

        def training_step(model, *args):
            seen.append(None)
            if len(seen) == batch:
                os.kill(os.getpid(), number)
            return step(model, *args)

        monkeypatch.setattr(MTMSA, "training_step", training_step)

    return arrange


def stops(args: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 75


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def equal(first: Path, second: Path) -> None:
    """Assert that two runs left the same behind: weights, optimiser, schedule, figures, predictions."""
    one, two = last(first), last(second)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state", "averaging_state"):
        torch.testing.assert_close(one.get(key), two.get(key), rtol=0, atol=0, msg=key)
    metrics, again = (pd.read_csv(run / "metrics.csv") for run in (first, second))
    pd.testing.assert_frame_equal(metrics.drop(columns="train/seconds"), again.drop(columns="train/seconds"))
    faces, anew = (pd.read_parquet(run / "predictions" / "test.parquet") for run in (first, second))
    pd.testing.assert_frame_equal(faces, anew)


@pytest.mark.slow
def test_a_signal_within_an_epoch_changes_nothing(tiny_config, tmp_path, signal_at, monkeypatch):
    """SIGUSR1 in the first epoch, SIGTERM in the second: five batches each."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit = ["fit", "--config", str(tiny_config), *FIT, *EXACT, "--run_dir"]
    main([*fit, str(whole)])
    for number, batch in ((signal.SIGUSR1, 2), (signal.SIGTERM, 5)):
        signal_at(number, batch)
        stops([*fit, str(broken)])
        monkeypatch.undo()
    main([*fit, str(broken)])
    equal(whole, broken)
