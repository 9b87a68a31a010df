"""A training that ends within an epoch, for whatever reason, continues there as one that did not end."""

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from same_training import assert_same_state

from mtmsa_lightning import MORPH, MTMSA
from mtmsa_lightning.models.backbones import resnet
from mtmsa_lightning.models.backbones.msa import MultiScaleAttention
from mtmsa_lightning.models.backbones.trunk import Trunk
from mtmsa_lightning.optim.schedulers import WarmupCosine
from mtmsa_lightning.training.callbacks.checkpoints import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    StepSeed,
)
from mtmsa_lightning.training.callbacks.ema import EMA

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "use_distributed_sampler": False, "num_sanity_val_steps": 0,
}  # fmt: skip


STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "MORPH")


class SmallTrunk(Trunk):
    """In place of a ResNet-34, whose checkpoints of 340 MB would take nearly all of the time."""

    stage_strides = (64, 64, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 8, 8),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, resnet.WIDTHS[-1], 8),
        )

    def stage_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(x)] * 4

    def attention_modules(self) -> dict[int, MultiScaleAttention]:
        return {}

    def published_weights(self, name: str) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    library_weights = published_weights


class Stop(Callback):
    """Asks for the end of a training in a batch, counted from 1 over all epochs."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            trainer.should_stop = True


class StopAfterValidation(Callback):
    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        trainer.should_stop = True


class TimeUp(Timer):
    """A time limit that is reached in a batch, whatever the machine."""

    def __init__(self, batch: int) -> None:
        super().__init__(timedelta(seconds=3600))
        self.batch = batch

    def time_elapsed(self, stage: object = None) -> float:
        return 0 if self.batch is None or self.trainer.fit_loop.total_batch_idx + 1 < self.batch else 3601

    def on_fit_start(self, trainer: Trainer, *_: object) -> None:
        self.trainer = trainer


def data(root: Path) -> MORPH:
    """Five training batches."""
    return MORPH(root=str(root), image_size=64, crop=1.0, batch_size=7, num_workers=0, val_fraction=0.2)


def network() -> MTMSA:
    torch.manual_seed(0)
    scheduler = partial(WarmupCosine, total_steps=10)
    age = {"class_path": "mtmsa_lightning.GaussianAgeHead", "init_args": {"dropout": 0.2}}
    optimizer = partial(torch.optim.AdamW, lr=1e-3)
    model = MTMSA(msa=None, age=age, race=None, image_size=64, scheduler=scheduler, optimizer=optimizer)
    model.trunk = SmallTrunk()
    return model


def fit(root: Path, run: Path, *more: Callback, go_on: bool = False, faces: MORPH | None = None, **settings):
    """Train for two epochs if nothing else is said; return the state that was saved last."""
    best, last = BestCheckpoint(), LastCheckpoint()
    best.dirpath = last.dirpath = str(run)
    callbacks = [EMA(0.9), StepSeed(5), *more, best, last]
    trainer = Trainer(
        **(QUIET | {"max_epochs": 2} | settings),
        callbacks=callbacks, plugins=[AtomicCheckpointIO()], default_root_dir=run,
    )  # fmt: skip
    ckpt_path = run / "last.ckpt" if go_on else None
    trainer.fit(network(), faces or data(root), ckpt_path=ckpt_path, weights_only=True)
    return torch.load(run / "last.ckpt", weights_only=True)


def assert_equal(found: dict, expected: dict) -> None:
    assert_same_state(found, expected, STATE)


@pytest.fixture(scope="module")
def whole(morph_root, tmp_path_factory):
    """What a training of some settings ends with, made once."""
    made: dict[str, dict] = {}

    def end_of(**settings) -> dict:
        key = str(settings)
        if key not in made:
            made[key] = fit(morph_root, tmp_path_factory.mktemp("whole"), **settings)
        return made[key]

    return end_of


@pytest.mark.parametrize(
    ("stopper", "settings", "batches"),
    [
        (None, {"max_steps": 4}, 4),
        (TimeUp(3), {}, 3),
        (Stop(1), {"accumulate_grad_batches": 2, "val_check_interval": 3}, 2),
        (StopAfterValidation(), {"accumulate_grad_batches": 2, "val_check_interval": 3}, 4),
        (EarlyStopping("val/age_mae", stopping_threshold=1e9), {"val_check_interval": 2}, 2),
        (Stop(3), {"limit_train_batches": 4}, 3),
    ],
)
def test_a_training_that_ended_within_an_epoch_continues_exactly(
    morph_root, tmp_path, whole, stopper, settings, batches
):
    stoppers = [] if stopper is None else [stopper]
    stopped = fit(morph_root, tmp_path, *stoppers, **settings)
    assert stopped["MORPH"] == {"epoch": 0, "batches": batches}
    settings.pop("max_steps", None)
    assert_equal(fit(morph_root, tmp_path, go_on=True, **settings), whole(**settings))


def test_a_training_that_ends_within_an_epoch_validates_and_keeps_the_weights_that_it_ends_with(
    morph_root, tmp_path
):
    last = fit(morph_root, tmp_path, max_steps=2)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert all(torch.equal(value, last["state_dict"][name]) for name, value in best["state_dict"].items())
    kept = next(value for name, value in last["callbacks"].items() if "BestCheckpoint" in name)
    assert kept["best_epoch"] == 0
    assert kept["best_metrics"]["val/age_mae"] == pytest.approx(float(kept["best_model_score"]))


def test_another_training_with_the_same_data_and_weights_starts_at_the_beginning(morph_root, tmp_path):
    """After a training that was continued within an epoch."""
    faces = data(morph_root)
    fit(morph_root, tmp_path / "first", max_steps=4)
    fit(morph_root, tmp_path / "first", go_on=True, max_steps=6, faces=faces)
    second = fit(morph_root, tmp_path / "second", faces=faces, max_steps=2)
    assert_equal(second, fit(morph_root, tmp_path / "third", max_steps=2))


def test_the_best_weights_are_those_that_were_validated(morph_root, tmp_path):
    """A validation after four of five batches, none after the last."""
    last = fit(morph_root, tmp_path, max_epochs=1, val_check_interval=4)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == 4
    assert "train_sums" not in best
    assert last["global_step"] == 5
