"""Nothing in a step waits for the device, or mixes devices: what a GPU is fast by, checked without one.

Fake tensors have a device and a shape but no values. They pass through a step as on a GPU; where a value is
asked for, or a CPU tensor meets one of a GPU, torch fails. Backward passes need a real device: those run on
the CPU, where whoever reads a value would wait on a GPU.
"""

import inspect
import math
import traceback

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from untrained_networks import TinyTrunk

from mtmsa_lightning import MTMSA, MSAConfig
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.augment.device import augment
from mtmsa_lightning.data.augment.params import AugmentationParams
from mtmsa_lightning.models.class_mapping import ClassMapping
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.training.callbacks.prediction_writer import PredictionTable

aten = torch.ops.aten

HEADS = [name for name in age_heads.__all__ if not inspect.isabstract(getattr(age_heads, name))]

PREDICTIONS = [name for name in HEADS if name not in ("DLDLAgeHead", "DLDLv2AgeHead", "MeanVarianceAgeHead")]
"""Heads that differ in their predictions: the others differ from cross-entropy in training alone."""


class NoCopies(TorchDispatchMode):
    """Fails at a copy between devices that the CPU would wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten.copy_.default:
            assert args[0].device.type == args[1].device.type or args[2:] == (True,), "waits for a copy"
        if func is aten._to_copy.default and kwargs.get("device") is not None:
            away = args[0].device.type != torch.device(kwargs["device"]).type
            assert not away or kwargs.get("non_blocking"), "waits for a copy"
        return func(*args, **kwargs)


def network_of(head, **settings):
    """Return a network, with the backbone and attention for one of the heads: they do not depend on it."""
    settings = {"msa": MSAConfig(rates=(1, 2), stages=(1, 2)), "image_size": 64} | settings
    model = MTMSA(
        age=getattr(age_heads, head), race_classes=("white", "black"), age_groups=((0, 2), (4, 6)), **settings
    )
    if head != "GaussianAgeHead":
        model.trunk = TinyTrunk()
    if not model.age.fitted:
        model.age.set_age_statistics(33, 11)
    model.class_mappings = {
        "gender": ClassMapping(("female", "male"), model.gender_classes),
        "race": ClassMapping(("black", "other"), model.race_classes),
    }
    return model


def batch_of(n=4):
    ages, classes = torch.full((n,), 30.0, dtype=torch.float64), torch.ones(n, dtype=torch.int64)
    return {
        "image": torch.zeros(n, 64, 64, 3, dtype=torch.uint8).permute(0, 3, 1, 2), "age_low": ages,
        "age_high": ages + torch.arange(n) % 2, "gender": classes, "race": classes, "index": torch.arange(n),
        "valid": classes > 0,
    }  # fmt: skip


def a_gpu():
    """A GPU that is not there: what is moved to it inside becomes fake."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def test_a_value_that_is_asked_for_is_found():
    """What these tests rest on."""
    with a_gpu():
        labels = torch.ones(3, dtype=torch.int64).to("cuda")
        with pytest.raises(DynamicOutputShapeException):
            labels[labels >= 0]
        with pytest.raises(DataDependentOutputException):
            labels.sum().item()
        with pytest.raises(RuntimeError, match="device"):
            labels + torch.ones(3)
        with pytest.raises(AssertionError, match="waits"), NoCopies():
            torch.ones(3).to("cuda")


@pytest.mark.parametrize("head", HEADS)
def test_a_step_and_its_metrics_wait_for_nothing(head):
    model, batch = network_of(head, weighting="learned").train(), batch_of()
    with a_gpu():
        model, batch = move_data_to_device((model, batch), "cuda")
        with NoCopies():
            _, _, losses = model._step("train", batch)
            assert model.total_loss(losses).device.type == "cuda"


@pytest.mark.parametrize(
    ("head", "calibrated"), [(head, False) for head in PREDICTIONS] + [("GaussianAgeHead", True)]
)
def test_an_evaluated_batch_waits_for_nothing(head, calibrated):
    """But for a calibrated distribution over single years, whose width is found step by step."""
    model, batch, table = network_of(head, flip_test=True).eval(), batch_of(), PredictionTable()
    if calibrated:
        model.calibration = Calibration(1.7, {"gender": 2.0}, {0.9: 1.5}, max_width=9.0, min_group_prob=0.3)
    with a_gpu():
        model, batch = move_data_to_device((model, batch), "cuda")
        with torch.inference_mode(), NoCopies():
            table.add(model, model.test_step(batch, 0), batch)
    assert table._waiting[0]["age_mean"].device.type == "cuda"


def test_augmentation_on_the_device_waits_for_nothing():
    names = AugmentationParams._fields
    draws = np.abs(np.random.default_rng(0).normal(size=(4, len(names)))).astype(np.float32)
    draws[:, [names.index(name) for name in ("first", "second", "third", "fourth", "grey")]] = 1
    with a_gpu():
        images = batch_of()["image"].to("cuda")
        with NoCopies():
            assert augment(images, draws, 48).device.type == "cuda"


# ------------------------------------------------------------------ a whole training, on the CPU


READING = (
    aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select, aten.bincount, aten._unique2,
    aten.unique_consecutive, aten.repeat_interleave,
)  # fmt: skip
MASKABLE = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class Reads(TorchDispatchMode):
    """Keeps who asks for a value; what goes to numpy is not seen, nor copies, which the CPU does not make."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masked = func in MASKABLE and any(each is not None and each.dtype == torch.bool for each in args[1])
        if masked or func.overloadpacket in READING:
            self.found.append("".join(traceback.format_stack(limit=12)))
        return func(*args, **(kwargs or {}))


class WatchedSteps(Callback):
    """Watches all that happens from the second batch of a training to its fourth."""

    reads: Reads
    shown: dict

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1:
            WatchedSteps.reads = Reads()
            self.reads.__enter__()
        elif batch_idx == 4:
            self.reads.__exit__(None, None, None)
            WatchedSteps.shown = trainer.progress_bar_callback.get_metrics(trainer, pl_module)


def test_a_training_reads_no_value_between_its_steps(tiny_config, tmp_path):
    main(
        [
            "fit", "--config", str(tiny_config), f"--run_dir={tmp_path / 'run'}", "--ema=0.9",
            "--model.optimizer.init_args.fused=true", "--trainer.max_epochs=1",
            "--trainer.gradient_clip_val=1",
            "--trainer.enable_progress_bar=true", "--trainer.callbacks+=test_waits.WatchedSteps",
            "--data.augment_on=device", "--trainer.limit_val_batches=1", "--test_after_fit=false",
            "--data.val_fraction=0.2",  # five batches
        ]
    )  # fmt: skip
    assert WatchedSteps.reads.found == []
    assert math.isfinite(WatchedSteps.shown["loss"])
