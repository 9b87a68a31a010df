"""The callbacks in a Trainer that was built in Python, without the command line."""

import json
import logging

import pandas as pd
import pytest
from lightning.pytorch import Trainer

from mtmsa_lightning import MORPH, MTMSA, MSAConfig
from mtmsa_lightning.training.callbacks.checkpoints import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    StepSeed,
)
from mtmsa_lightning.training.callbacks.console import EpochLine
from mtmsa_lightning.training.callbacks.ema import EMA
from mtmsa_lightning.training.callbacks.epoch_csv import EpochCSV
from mtmsa_lightning.training.callbacks.logged_plots import Panels
from mtmsa_lightning.training.callbacks.prediction_writer import PredictionWriter
from mtmsa_lightning.training.callbacks.preemption import Preemption
from mtmsa_lightning.training.callbacks.run_record import RunRecord
from mtmsa_lightning.training.callbacks.training_monitor import TrainingMonitor


@pytest.fixture
def data(morph_root):
    size = {"image_size": 64, "crop": 1.0, "batch_size": 8}
    return MORPH(root=str(morph_root), num_workers=0, val_fraction=0.2, **size)


@pytest.fixture
def model(data):
    msa = MSAConfig(rates=(1,), stages=(1,))
    return MTMSA(msa=msa, race_classes=data.race_classes, image_size=data.image_size, crop=data.crop)


def trainer_with(callbacks, root, **options):
    settings = {"accelerator": "cpu", "max_epochs": 1, "default_root_dir": root, "logger": False}
    settings |= {"log_every_n_steps": 1}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"use_distributed_sampler": False}
    return Trainer(callbacks=callbacks, **(settings | quiet | options))


def test_a_line_per_epoch_and_the_best_checkpoint(data, model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    best = BestCheckpoint("val/age_mae")
    trainer_with([EpochLine(), best], tmp_path).fit(model, data)
    assert [text for text in caplog.messages if text.startswith("epoch 1/1  train loss ")]
    assert MTMSA.load(best.best_model_path).provenance["dataset"] == "synthetic-morph"


def test_all_callbacks_together(data, model, tmp_path):
    run = tmp_path / "run"
    callbacks = [
        RunRecord(run, "name: plain\n", {"name": "plain"}), PredictionWriter(run / "test.parquet"), Panels(),
        EMA(0.9), StepSeed(0), TrainingMonitor(), EpochLine(), Preemption(run / "last.ckpt"),
        BestCheckpoint(), LastCheckpoint(),
    ]  # fmt: skip
    logger = EpochCSV(run / "metrics.csv")
    trainer = trainer_with(callbacks, tmp_path, logger=logger, plugins=[AtomicCheckpointIO()])
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    table = pd.read_parquet(run / "test.parquet")
    assert table["id"].tolist() == data.test_dataset.table["id"].tolist()
    metrics = pd.read_csv(run / "metrics.csv")
    assert {"val/age_mae", "train/grad_norm", "speed/images_per_second"} <= {*metrics}
    record = json.loads((run / "run.json").read_text())
    assert record["test"]["test/age_mae"] == pytest.approx(float(trainer.callback_metrics["test/age_mae"]))
