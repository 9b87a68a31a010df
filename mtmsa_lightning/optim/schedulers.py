"""Learning rate schedules and scaling of the learning rate with the batch size."""

import inspect
import math
from functools import partial
from typing import Any, Literal, NamedTuple, Self

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import ConfigError


class WarmupCosine(LambdaLR):
    """Linear warm-up, then cosine decay to a fraction of the base learning rate.

    Args:
        optimizer: The optimiser.
        warmup: Fraction of all steps that warm up.
        final: Last learning rate as a fraction of the base learning rate.
        total_steps: Steps of the whole training; set by the LightningModule if None.
    """

    def __init__(
        self, optimizer: Optimizer, warmup: float = 0.05, final: float = 0.01, total_steps: int | None = None
    ) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup {warmup} is a fraction of all steps: choose a value in [0, 1)")
        if not 0 <= final <= 1:
            text = f"final {final} is a fraction of the base learning rate: choose a value in [0, 1]"
            raise ValueError(text)
        self.warmup, self.final, self.total = warmup, final, total_steps
        super().__init__(optimizer, self.factor)

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the length, so that a run can be continued for more steps."""
        return {key: value for key, value in super().state_dict().items() if key != "total"}

    def set_total_steps(self, total: int) -> None:
        """Set the length of the training in steps and update the learning rates."""
        self.total = max(1, total)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * self.factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def factor(self, step: int) -> float:
        """Return the learning rate at a step as a fraction of the base learning rate."""
        total = self.total or 1  # unknown until the LightningModule sets it
        rising = round(self.warmup * total)
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = min(1.0, (step - rising) / max(1, total - rising))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


LearningRateScaling = Literal["none", "linear", "sqrt"]
"""How the learning rate scales with the global batch size."""


class BatchSize(NamedTuple):
    """Faces per device and forward pass, processes over all nodes, and forward passes per optimiser step."""

    per_device: int
    devices: int
    accumulated: int

    @property
    def total(self) -> int:
        """The global batch size."""
        return self.per_device * self.devices * self.accumulated

    @classmethod
    def of(cls, trainer: Any) -> Self:
        """Return the batch size of a Trainer and its DataModule."""
        return cls(trainer.datamodule.batch_size, trainer.world_size, trainer.accumulate_grad_batches)

    def __str__(self) -> str:
        accumulated = f" x {self.accumulated} accumulated" if self.accumulated > 1 else ""
        faces, devices = pluralize(self.per_device, "face"), pluralize(self.devices, "device")
        return f"{faces} x {devices}{accumulated} = {self.total}"


def batch_lr_factor(scaling: LearningRateScaling, own: int, trainer: Any) -> float:
    """Return the factor of a learning rate that was chosen for a batch of ``own`` faces.

    Raises:
        ConfigError: The rate is to be scaled, and the DataModule has no ``batch_size``.
    """
    if scaling == "none":
        return 1.0
    if not hasattr(getattr(trainer, "datamodule", None), "batch_size"):
        raise ConfigError(
            f"model.lr_scaling {scaling} needs the faces per step: use a DataModule with an attribute "
            "batch_size, or model.lr_scaling none"
        )
    ratio = BatchSize.of(trainer).total / own
    return float(ratio if scaling == "linear" else ratio**0.5)


def wants_total_steps(factory: Any) -> bool:
    """Return whether a scheduler class or partial has an argument ``total_steps`` that is not set yet."""
    given = factory.keywords if isinstance(factory, partial) else {}
    inner = inspect.signature(factory).parameters if isinstance(factory, partial | type) else {}
    lengths = [given.get(name) for name in ("total_steps", "epochs")]
    return "total_steps" in {*given, *inner} and lengths == [None, None]
