"""The two checkpoints of a run: the best by a validation metric, and the last."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class _RunCheckpoint(ModelCheckpoint):
    """A checkpoint in the run's own directory, which may have been moved since it was written."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued, with the paths of today."""
        old, new = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): item for key, item in value.items()}
            return value.replace(old, new) if isinstance(value, str) else value

        super().load_state_dict({key: moved(value) for key, value in state_dict.items()})


class BestCheckpoint(_RunCheckpoint):
    """Keeps ``best.ckpt``, chosen by a validation metric.

    Args:
        monitor: The metric, e.g. ``val/age_mae`` or ``val/group_acc``.
        mode: Whether less (``min``) or more (``max``) is better.
    """

    def __init__(self, monitor: str = "val/age_mae", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_top_k=1,
            auto_insert_metric_name=False, enable_version_counter=False,
        )  # fmt: skip
        self.best_epoch: int | None = None
        self.best_figures: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the epoch is the best so far, and remember its validation figures."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._last_global_step_saved == trainer.global_step:
            figures = trainer.callback_metrics.items()
            self.best_epoch = trainer.current_epoch
            self.best_figures = {name: float(value) for name, value in figures if name.startswith("val/")}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a continued run takes up."""
        return super().state_dict() | {"best_epoch": self.best_epoch, "best_figures": self.best_figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is continued."""
        super().load_state_dict(state_dict)
        self.best_epoch = state_dict["best_epoch"]
        self.best_figures = state_dict["best_figures"]


class LastCheckpoint(_RunCheckpoint):
    """Keeps ``last.ckpt`` of every epoch, with the random state, so that a run can be continued exactly.

    ``save_last`` of Lightning's own callback skips epochs that are not better.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the state of torch's generators (dropout draws from them)."""
        state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state |= {"cuda": torch.cuda.get_rng_state()}
        checkpoint["random_state"] = state

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the state of the generators for the start of training."""
        self._random_state = checkpoint.get("random_state", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the generators back, after everything that draws at start-up."""
        super().on_train_start(trainer, pl_module)
        state = getattr(self, "_random_state", {})
        if "cpu" in state:
            torch.set_rng_state(state["cpu"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final place and renames it.

    Lightning writes to the system's temporary folder and moves the file, which is a slow copy where that is
    another file system: a process killed meanwhile leaves half a checkpoint in the place of a whole one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; local paths only.

        Args:
            checkpoint: What to save.
            path: Where to.
            storage_options: Not used for local files.
        """
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        with partial.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
