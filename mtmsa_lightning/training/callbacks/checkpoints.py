"""The two checkpoints of a run, the best by a validation metric and the last, and how they are written."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from mtmsa_lightning._utils.atomic_write import replacing
from mtmsa_lightning._utils.epoch_position import place_in_epoch
from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.pretrained import WEIGHTS, read_pretrained
from mtmsa_lightning.training.callbacks.monitor_check import (
    check_monitors,
    may_log_others,
    unknown_metric,
    validation_metrics,
)


class _RunCheckpoint(ModelCheckpoint):
    """A checkpoint in a run directory, which may have been moved since it was written."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a continued run, with its present paths."""
        old, new = str(state_dict["dirpath"]), str(self.dirpath)
        if old != new and not (Path(new) / Path(state_dict["best_model_path"]).name).is_file():
            return  # weights of another run, whose best checkpoint is not in this directory

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): item for key, item in value.items()}
            return value.replace(old, new) if isinstance(value, str) else value

        super().load_state_dict({key: moved(value) for key, value in state_dict.items()})


WEIGHTS_KEYS = (
    "epoch", "global_step", "pytorch-lightning_version", "state_dict", "hparams_name", "hyper_parameters",
)  # fmt: skip
"""Lightning's keys in the best checkpoint; the model adds provenance and calibration."""


class BestCheckpoint(_RunCheckpoint):
    """Save ``best.ckpt``, the best epoch by a validation metric: weights without optimiser state.

    Args:
        monitor: The metric, e.g. ``val/age_mae`` or ``val/group_acc``.
        mode: Whether smaller (``min``) or larger (``max``) values are better.
    """

    def __init__(self, monitor: str = "val/age_mae", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_top_k=1,
            auto_insert_metric_name=False, enable_version_counter=False,
            save_on_train_epoch_end=False,  # but after every validation, with the validated weights
        )  # fmt: skip
        self.best_epoch: int | None = None
        self.best_metrics: dict[str, float] = {}
        self._saving = False

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self._saving = True
        try:
            super()._save_checkpoint(trainer, filepath)
        finally:
            self._saving = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the weights only, after EMA has replaced them by the average."""
        # Lightning's save_weights_only would skip the average
        for key in [key for key in checkpoint if self._saving and key not in WEIGHTS_KEYS]:
            del checkpoint[key]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if these are the best weights so far, and keep their validation metrics."""
        if not trainer.callback_metrics.get(str(self.monitor), torch.zeros(())).isfinite():
            return  # Lightning would save the first ones with any value
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking and self._last_global_step_saved == trainer.global_step:
            self.best_epoch = trainer.current_epoch
            self.best_metrics = logged_metrics(trainer, "val")

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a continued run."""
        return super().state_dict() | {"best_epoch": self.best_epoch, "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a continued run."""
        super().load_state_dict(state_dict)
        if self.best_model_path:
            self.best_epoch = state_dict["best_epoch"]
            self.best_metrics = state_dict["best_metrics"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the monitors of this and all other callbacks before the first epoch."""
        assert isinstance(pl_module, MTMSA)
        metrics = validation_metrics(pl_module)
        of_package = str(self.monitor).removeprefix("val/") in METRIC_BY_NAME
        if self.monitor not in metrics and (of_package or not may_log_others(trainer)):
            raise ConfigError(unknown_metric("checkpoint.monitor", str(self.monitor), metrics))
        check_monitors(trainer, pl_module)


class LastCheckpoint(_RunCheckpoint):
    """Save ``last.ckpt`` after every epoch; Lightning's ``save_last`` skips epochs that are not better.

    A training that ends within an epoch (by ``max_steps``, ``max_time`` or early stopping) is saved there and
    continues with the next batch. It ends after an optimiser step, not between accumulated batches, and
    validates its last weights.
    """

    def __init__(self) -> None:
        super().__init__(
            filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False,
            save_on_train_epoch_end=True,
        )  # fmt: skip
        self._stopping = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the flag to stop."""
        super().on_train_start(trainer, pl_module)
        self._stopping = False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop after the last step and its validation."""
        self._stopping |= trainer.global_step == trainer.max_steps
        self._delay(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delay early stopping."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._delay(trainer)

    def _delay(self, trainer: Trainer) -> None:
        """Delay a stop until all accumulated gradients are used."""
        self._stopping |= trainer.should_stop
        trainer.should_stop = self._stopping and not trainer.fit_loop._should_accumulate()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, with the position in the epoch if the training ends within it."""
        with place_in_epoch(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def logged_metrics(trainer: Trainer, stage: str) -> dict[str, float]:
    """Return the logged metrics of a stage (``val`` or ``test``) by name."""
    logged = trainer.callback_metrics.items()
    return {name: float(value) for name, value in logged if name.startswith(f"{stage}/")}


class StepSeed(Callback):
    """Seed torch before every step and on every process, so that a continued run is exact."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by (seed, epoch, batch, rank)."""
        position = batch_idx * trainer.world_size + trainer.global_rank
        seed = sample_seed(self.seed, trainer.current_epoch, position)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed, for all devices, is slow
        if pl_module.device.type != "cpu":
            torch.get_device_module(pl_module.device).manual_seed(seed)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically; read folders of ``save_pretrained`` too.

    Lightning's move from the temporary folder is a copy between file systems, and may leave half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; local paths only."""
        with replacing(Path(path)) as partial, partial.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        if Path(path).name == WEIGHTS:
            return read_pretrained(Path(path).parent)
        return super().load_checkpoint(path, map_location, weights_only)
