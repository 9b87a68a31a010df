"""Building of parameter groups, optimiser and learning rate schedule; freezing of the pretrained layers."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.optim.schedulers import WarmupCosine, wants_total_steps
from mtmsa_lightning.settings.error_messages import as_config_error


@dataclass(frozen=True)
class LearningRateFactors:
    """Factors of the optimiser's learning rate for parts of the network.

    Attributes:
        trunk: Of the pretrained layers.
        attention: Of the attention modules.
        heads: Of the heads, and of learned task weights.
        layer_decay: Decay of the factor per stage from the heads down (Clark et al., "ELECTRA", ICLR 2020):
            stage 4 has ``trunk * layer_decay``, the stem ``trunk * layer_decay ** 5``. 1 for none.

    Raises:
        ValueError: A factor is negative, or the decay is outside of (0, 1].
    """

    trunk: float = 1.0
    attention: float = 1.0
    heads: float = 1.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("trunk", "attention", "heads"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"lr_factors.{name} {getattr(self, name)} must be at least 0")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"lr_factors.layer_decay {self.layer_decay} must be above 0 and at most 1")

    def of_stage(self, stage: int) -> float:
        """Return the factor of a stage of the trunk, 1 to 4, or of its stem, 0."""
        return self.trunk * self.layer_decay ** (5 - stage)


_NO_FACTORS = LearningRateFactors()


def parameter_groups(
    model: nn.Module,
    trunk: nn.Module,
    pretrained: Iterable[tuple[str, nn.Parameter, int]],
    factors: LearningRateFactors = _NO_FACTORS,
) -> list[dict[str, Any]]:
    """Group parameters by part, learning rate and weight decay, for :func:`build_optimizer`.

    The parts are ``trunk`` (one group per stage, ``trunk_0`` to ``trunk_4``, if ``layer_decay`` is not 1),
    ``attention`` and ``heads``. Biases and normalisation layers are in groups of their own, named
    ``trunk_undecayed`` and so on, with a weight decay of 0. ``lr_factor`` of a group is the factor of its
    learning rate.

    Args:
        model: Trunk and heads.
        trunk: The trunk.
        pretrained: Name, parameter and stage of the trunk's parameters outside of the attention.
        factors: Factors of the learning rate.
    """
    stages = {id(parameter): stage for _, parameter, stage in pretrained}
    below = {id(parameter) for parameter in trunk.parameters()}
    groups: dict[str, dict[str, Any]] = {}
    for parameter in model.parameters():
        stage = stages.get(id(parameter))
        name = "attention" if id(parameter) in below else "heads"
        factor = factors.attention if id(parameter) in below else factors.heads
        if stage is not None:
            name = "trunk" if factors.layer_decay == 1 else f"trunk_{stage}"
            factor = factors.of_stage(stage)
        extra: dict[str, Any] = {"lr_factor": factor}
        if parameter.ndim < 2:
            name, extra = f"{name}_undecayed", extra | {"weight_decay": 0.0}
        groups.setdefault(name, {"params": [], "name": name} | extra)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(factory: Callable[..., Optimizer], groups: list[dict[str, Any]]) -> Optimizer:
    """Build the optimiser ``model.optimizer``; ConfigError if it does not accept its arguments."""
    with as_config_error("model.optimizer"):
        optimizer = factory(groups)
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_factor", 1.0)
    # A fused optimiser offers to unscale gradients in its step, after clipping. Lightning refuses the two
    # together, even in bf16-mixed, which scales nothing. Without the offer it unscales before it clips.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    optimizer.register_load_state_dict_post_hook(_match_memory_format)
    return optimizer


def build_schedule(
    factory: Callable[..., Any], optimizer: Optimizer, interval: str, trainer: Trainer | None
) -> OptimizerLRScheduler:
    """Return the value of ``configure_optimizers``: an optimiser with its schedule ``model.scheduler``.

    An argument ``total_steps`` of the factory that is not set receives the length of the Trainer's training.

    Raises:
        ConfigError: It does not accept its arguments, or needs an unknown length or a metric.
    """
    length = {"total_steps": _length(trainer, interval)} if wants_total_steps(factory) else {}
    with as_config_error("model.scheduler"):
        scheduler: Any = factory(optimizer, **length)
    if isinstance(scheduler, WarmupCosine) and scheduler.total is None:
        scheduler.set_total_steps(_length(trainer, interval))
    config = {"scheduler": scheduler, "interval": interval}
    if isinstance(scheduler, ReduceLROnPlateau) and not hasattr(scheduler, "monitor"):
        raise ConfigError(
            "model.scheduler ReduceLROnPlateau: torch's own class monitors no metric; give "
            "lightning.pytorch.cli.ReduceLROnPlateau and --model.scheduler.monitor val/loss"
        )
    if hasattr(scheduler, "monitor"):
        config |= {"monitor": scheduler.monitor, "interval": "epoch"}
    return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]


def _length(trainer: Trainer | None, interval: str) -> int:
    """Return the number of steps of a schedule over the whole training."""
    if trainer is None:
        raise ConfigError("this learning rate schedule needs a Trainer, which has the length of the training")
    steps = trainer.estimated_stepping_batches if interval == "step" else trainer.max_epochs or -1
    if not 0 < steps < float("inf"):
        raise ConfigError("this learning rate schedule needs a finite trainer.max_epochs or max_steps")
    return int(steps)


@contextmanager
def frozen_trunk(optimizer: Any, active: bool) -> Iterator[None]:
    """Set the learning rate of the trunk's pretrained layers to 0 during a step.

    ``requires_grad`` cannot be used: DDP never reduces parameters that are unfrozen after it wraps the model.
    """
    plain: Optimizer = getattr(optimizer, "optimizer", optimizer)
    groups = [group for group in plain.param_groups if active and group["name"].startswith("trunk")]
    rates = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = 0.0
    try:
        yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate


def _match_memory_format(optimizer: Optimizer) -> None:
    """Give a loaded state the memory format of its parameters, which fused kernels require."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.stride() != parameter.stride() and value.ndim:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
