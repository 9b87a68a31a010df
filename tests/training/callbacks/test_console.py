import logging
import math
from types import SimpleNamespace

import pandas as pd
import torch

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training import lightning_cli as training
from mtmsa_lightning.training.callbacks.console import LossBar


class Loss:
    """A value on a device; counts how often it is read."""

    def __init__(self):
        self.value, self.reads = 0.0, 0

    def __float__(self):
        self.reads += 1
        return self.value


def test_the_bar_shows_the_loss_and_reads_it_rarely():
    bar, loss = LossBar(), Loss()
    trainer = SimpleNamespace(
        loggers=[], progress_bar_metrics={"val/age_mae": 5.0}, callback_metrics={}, global_step=0
    )
    assert bar.get_metrics(trainer, None) == {"val/age_mae": 5.0}
    trainer.callback_metrics["loss"] = loss
    shown = []
    for trainer.global_step in range(1, 61):
        loss.value = float(trainer.global_step)
        shown.append(bar.get_metrics(trainer, None)["loss"])
    assert shown == [1.0] * 19 + [20.0] * 20 + [40.0] * 20 + [60.0]
    assert loss.reads == 4


def test_a_bar_of_the_users_takes_its_place(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LossBar", None)
    place = ["--config", str(tiny_config), f"--run_dir={tmp_path}/run", "--trainer.enable_progress_bar=null"]
    own = "--trainer.callbacks+=lightning.pytorch.callbacks.TQDMProgressBar"
    main(["fit", *place, own, "--trainer.max_epochs=1", "--test_after_fit=false"])


def test_the_bar_counts_epochs_as_their_lines_do():
    bar = LossBar()
    bar._trainer = SimpleNamespace(max_epochs=5)
    assert [bar._get_train_description(epoch) for epoch in (0, 4)] == ["epoch 1/5", "epoch 5/5"]


SHORT = (
    "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", "--data.augment=false",
    "--test_after_fit=false",
)  # fmt: skip


def test_epochs_show_their_own_validation_and_early_stopping_is_announced(tiny_config, tmp_path, caplog):
    """Validated after epochs 2 and 4 of 5; the second is not better by 1000 years."""
    stop = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/age_mae"]
    stop += ["--trainer.callbacks.patience=1", "--trainer.callbacks.min_delta=1000"]
    length = ["--trainer.max_epochs=5", "--trainer.check_val_every_n_epoch=2"]
    with caplog.at_level(logging.INFO, "mtmsa_lightning"):
        main(["fit", "--config", str(tiny_config), f"--run_dir={tmp_path}/run", *SHORT, *stop, *length])
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/5", "2/5", "3/5", "4/5"]
    assert ["not validated" in line for line in lines] == [True, False, True, False]
    assert ["val age MAE" in line for line in lines] == [False, True, False, True]
    assert all("partial: 1 of 4 batches of the train part  " in line for line in lines)
    assert ["partial: 1 of 2 batches of the val part  " in line for line in lines] == [False, True] * 2
    assert pd.read_csv(tmp_path / "run" / "metrics.csv")["partial/val"].tolist() == [0.5] * 4
    (told,) = [line for line in caplog.messages if line.startswith("stopped early")]
    assert told.startswith("stopped early, after epoch 4 of 5: Monitored metric val/age_mae did not improve")
    assert read_record(tmp_path / "run")["seen"] == {"val": {"faces": 8, "unreadable": 0, "of": 14}}
    assert "validation (n = 8 of 14, partial)" in caplog.text


def test_a_training_that_diverges_is_told_once_and_leaves_no_best_checkpoint(fails, tiny_config, tmp_path):
    run = tmp_path / "run"
    large = "--model.optimizer.init_args.lr=1e30"
    message = fails("fit", "--config", tiny_config, f"--run_dir={run}", "--test_after_fit=false", large)
    assert message.count("training has diverged in epoch 1: its loss is nan") == 1
    assert "weight tensors hold NaN or infinity" in message
    assert not (run / "checkpoints" / "best.ckpt").exists()
    assert "diverged" in read_record(run)["failed"]


def test_the_best_checkpoint_is_never_of_a_validation_that_is_not_finite(tiny_config, tmp_path, monkeypatch):
    """The first of three epochs gives NaN, and Lightning would keep it."""
    logged = MTMSA.log

    def broken(model, name, value, **options):
        if name == "val/age_mae":
            values = torch.tensor(math.nan), value.compute(), torch.tensor(-math.inf)
            value = values[model.current_epoch]
        logged(model, name, value, **options)

    monkeypatch.setattr(MTMSA, "log", broken)
    run = tmp_path / "run"
    main(["fit", "--config", str(tiny_config), f"--run_dir={run}", *SHORT, "--trainer.max_epochs=3"])
    assert read_record(run)["best_epoch"] == 1
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
