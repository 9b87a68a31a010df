"""Learning rate, gradients, speed and memory of every training epoch, for all loggers."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm


class TrainingMonitor(Callback):
    """Log learning rates, gradient norms, speed and memory once per epoch.

    - ``lr/trunk``, ``lr/attention`` and ``lr/heads``: learning rates of the epoch's last step, of the
      backbone's layers, the attention modules and the heads; with a decay over the trunk's stages
      ``lr/trunk_0`` (its stem) to ``lr/trunk_4``;
    - ``train/grad_norm`` and ``train/grad_norm_max``: 2-norm of all gradients before clipping, mean and
      largest of the epoch's steps;
    - ``speed/images_per_second``: over all processes, without validation;
    - ``speed/data_wait_share``: fraction of the epoch's time in which the loop waited for the loader. A GPU
      computes during it, so that a value above 0 need not cost time;
    - ``memory/gpu_peak_gib``: peak memory of the first GPU so far.
    """

    METRICS = (
        "lr/trunk", *(f"lr/trunk_{stage}" for stage in range(5)), "lr/attention", "lr/heads",
        "train/grad_norm", "train/grad_norm_max", "speed/images_per_second", "speed/data_wait_share",
        "memory/gpu_peak_gib",
    )  # fmt: skip
    """Names of the metrics."""

    def __init__(self) -> None:
        self._norms: list[torch.Tensor] = []
        self._rates: dict[str, Any] = {}
        self._start()

    def state_dict(self) -> dict[str, Any]:
        """Return the norms of the steps so far, for a run continued within the epoch."""
        return {"norms": torch.stack(self._norms).cpu() if self._norms else torch.zeros(0)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the norms of the epoch; its speed is that of the remaining steps."""
        self._norms = list(state_dict["norms"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, also of a continued epoch."""
        self._norms = [norm.to(trainer.strategy.root_device) for norm in self._norms]
        self._start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset norms and clock."""
        self._norms = []
        self._start()

    def _start(self) -> None:
        self._faces, self._waited = 0, 0.0
        self._started = self._ready = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """Add the time waited for the batch."""
        self._waited += time.perf_counter() - self._ready
        self._faces += len(batch["image"])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keep learning rates and gradient norm without synchronising the device."""
        groups = [group for group in optimizer.param_groups if not group["name"].endswith("_undecayed")]
        self._rates = {f"lr/{group['name']}": group["lr"] for group in groups}
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        self._norms.append(get_total_norm(gradients))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Start the wait for the next batch."""
        self._ready = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock for a validation within the epoch."""
        self._stopped = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again."""
        seconds = time.perf_counter() - self._stopped
        self._started, self._ready = self._started + seconds, self._ready + seconds

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's metrics."""
        seconds = max(self._ready - self._started, 1e-9)
        metrics = self._rates | {
            "speed/images_per_second": self._faces * trainer.world_size / seconds,
            "speed/data_wait_share": self._waited / seconds,
        }
        if self._norms:
            norms = torch.stack(self._norms)
            metrics |= {"train/grad_norm": norms.mean(), "train/grad_norm_max": norms.max()}
        device = trainer.strategy.root_device
        if device.type == "cuda":
            metrics["memory/gpu_peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        pl_module.log_dict(metrics)
