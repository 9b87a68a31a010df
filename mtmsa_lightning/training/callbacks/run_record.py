"""The record of a run: ``config.yaml``, ``run.json`` and ``run.log``."""

import importlib.metadata
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.logs import to_file
from mtmsa_lightning.data.baselines import constant_age_mae
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.mixture.datamodule import Mixture
from mtmsa_lightning.data.training_hashes import hash_in_background
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.optim.schedulers import BatchSize
from mtmsa_lightning.runs.checkpoints import weights_digest
from mtmsa_lightning.runs.run_json import read_record, update_record
from mtmsa_lightning.runs.status import PLACES
from mtmsa_lightning.settings.configs import PACKAGE
from mtmsa_lightning.training.callbacks.checkpoints import BestCheckpoint, logged_metrics

log = logging.getLogger(__name__)

PACKAGES = ("mtmsa-lightning", "torch", "torchvision", "lightning", "torchmetrics", "albumentations", "numpy")


TRAINED_ON = (
    "dataset",
    "protocol",
    "fold",
    "label_rule",
    "seed",
    "fingerprints",
    "race_classes",
    "image_size",
    "crop",
    "earlier",
)
"""Entries of a checkpoint's provenance that are recorded with test results."""


class RunRecord(Callback):
    """Record everything needed to repeat a run or to quote its results.

    Args:
        run: The run directory.
        config: The settings as YAML text, ready for ``--config``.
        values: Further plain values for ``run.json``.
    """

    def __init__(self, run: Path, config: str, values: dict[str, Any]) -> None:
        self.run = run
        self.config = config
        self.values = values
        self._begun = False
        self._start = time.monotonic()
        self._seconds_before = 0.0
        self._seen: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the record before the first step."""
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self._begun:
            return
        self._begun = True
        write_text(self.run / "config.yaml", self.config)
        to_file(self.run / "run.log")
        before = read_record(self.run)
        now = datetime.now().isoformat(timespec="seconds")
        continued = {"continued": [*before.get("continued", []), now]} if before else {"started": now}
        places = places_of(data)
        record: dict[str, Any] = {
            "failed": None, "command": shlex.join(sys.argv), "versions": versions(),
            "git_commit": git_commit(), **continued, "world_size": trainer.world_size,
            "device": device_name(trainer), "precision": trainer.precision,
            "hardware": {"processor": processor_name(), "cores": os.cpu_count()},
            "data": data.provenance(), "places": places,
        }  # fmt: skip
        update_record(self.run, record | self.values)

    @property
    def _seconds(self) -> float:
        return round(self._seconds_before + time.monotonic() - self._start, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the training time for a continued run."""
        return {"fit_seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the training time of a continued run."""
        self._seconds_before = state_dict["fit_seconds"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record and log global batch size and learning rate."""
        step = step_size(trainer)
        batch = BatchSize.of(trainer)
        if trainer.is_global_zero:
            before = (read_record(self.run).get("batch_size") or {}).get("global", batch.total)
            if trainer.ckpt_path and before != batch.total:
                text = "the global batch has %d faces, before the run was continued it had %d"
                log.warning(text, batch.total, before)
            update_record(self.run, step)
            rule, own = step["lr_scaling"], step["lr_batch_size"]
            scaled = "not scaled" if rule == "none" else f"{rule} from a batch of {own}"
            log.info("batch: %s; learning rate %g (%s)", batch, step["learning_rate"], scaled)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what the initial weights were trained on."""
        if trainer.is_global_zero:
            assert isinstance(pl_module, MTMSA)
            update_record(self.run, {"earlier": (pl_module.provenance or {}).get("earlier", [])})

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Start hashing the training images after the first step, which it would delay."""
        if trainer.is_global_zero:
            hash_in_background(trainer.datamodule)  # type: ignore[attr-defined]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting faces."""
        self._seen[_part(trainer)] = torch.zeros(2, dtype=torch.int64, device=pl_module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count readable and unreadable faces without synchronising the device."""
        valid = batch["valid"].sum()
        unreadable = torch.full_like(valid, sum(map(bool, batch["error"])))
        self._seen[_part(trainer)] += torch.stack([valid, unreadable])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum the faces of all processes."""
        part = _part(trainer)
        self._seen[part] = trainer.strategy.reduce(self._seen[part], reduce_op="sum")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _seen_of(self, trainer: Trainer, part: str) -> dict[str, Any]:
        """Return the counts of faces seen of a part, merged with those recorded of other parts."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if part not in self._seen:
            return {}
        faces, unreadable = self._seen[part].tolist()
        seen = {"faces": faces, "unreadable": unreadable, "of": len(getattr(data, f"{part}_dataset"))}
        return {"seen": read_record(self.run).get("seen", {}) | {part: seen}}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation metrics of the best epoch."""
        for best in [each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)]:
            of_best = {"val": best.best_metrics, "best_epoch": best.best_epoch}
            self._write(trainer, of_best | {"epochs": trainer.current_epoch})
        if trainer.is_global_zero:
            update_record(self.run, {"fit_seconds": self._seconds} | self._seen_of(trainer, "val"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the metrics of the command ``validate``."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write_metrics(trainer, pl_module, "val", {})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the test metrics and the MAE of a constant guess."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        guess = constant_age_mae(data.train_dataset.table, data.test_dataset.table)
        guessed = {"constant_age_mae": None if math.isnan(guess) else guess}
        self._write_metrics(trainer, pl_module, "test", guessed)

    def _write_metrics(
        self, trainer: Trainer, model: LightningModule, part: str, values: dict[str, Any]
    ) -> None:
        """Record metrics with the weights, calibration, training data and classes they belong to."""
        assert isinstance(model, MTMSA)
        metrics = {part: logged_metrics(trainer, part)}
        if not trainer.is_global_zero:
            return
        applied = model.calibration if part == "test" else None
        provenance = model.provenance or {}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        belonging = {
            "weights": weights_digest(model.state_dict()),
            "calibration": None if applied is None else applied.to_dict(),
            "trained_on": {key: provenance.get(key) for key in TRAINED_ON},
            "masked_classes": model.masked_classes(data, part),
        }
        overlap = {"overlap": model.overlap} if part == "test" else {}
        self._write(trainer, metrics | values | self._seen_of(trainer, part) | belonging | overlap)

    def _write(self, trainer: Trainer, values: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            finished = datetime.now().isoformat(timespec="seconds")
            update_record(self.run, values | {"finished": finished})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record the error that ended the run."""
        if trainer.is_global_zero and self._begun:
            seconds = {"fit_seconds": self._seconds} if trainer.state.fn == TrainerFn.FITTING else {}
            update_record(self.run, seconds | {"failed": f"{type(exception).__name__}: {exception}"})


def _part(trainer: Trainer) -> str:
    return "test" if trainer.testing else "val"


def places_of(data: FaceDataModule) -> dict[str, Any]:
    """Return the absolute paths of a DataModule by setting; of a mixture those of its sources."""
    if isinstance(data, Mixture):
        return {"sources": [places_of(source) for source in data.sources]}
    return {name: str(path.absolute()) for name in PLACES if (path := getattr(data, name)) is not None}


def step_size(trainer: Trainer) -> dict[str, Any]:
    """Return batch size and learning rate of a fit with its optimiser set up, as plain values."""
    batch, model = BatchSize.of(trainer), trainer.lightning_module
    assert isinstance(model, MTMSA)
    group = trainer.optimizers[0].param_groups[0]
    return {
        "batch_size": {**batch._asdict(), "global": batch.total},
        "learning_rate": float(group.get("initial_lr", group["lr"])),
        "lr_scaling": model.lr_scaling,
        "lr_batch_size": model.lr_batch_size,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        found[package] = "not installed"
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def git_commit() -> str | None:
    """Return the commit of the package's checkout, with ``+changes`` if it was edited."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(PACKAGE), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed wheel may be inside another checkout
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor_name() -> str:
    """Return the name of the processor, if the system gives it."""
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def device_name(trainer: Trainer) -> str:
    """Return the name of the device."""
    device = trainer.strategy.root_device
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type
