"""Building of parameter groups, optimiser and learning rate schedule; freezing of the pretrained layers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


def parameter_groups(model: nn.Module, pretrained: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """Group parameters by origin and weight decay: ``resnet`` (those of ``pretrained``) and ``new``.

    Biases and normalisation layers are in ``resnet_undecayed`` and ``new_undecayed``, with a weight decay of
    0.
    """
    resnet = {id(parameter) for module in pretrained for parameter in module.parameters()}
    groups: dict[str, dict[str, Any]] = {}
    for parameter in model.parameters():
        part = "resnet" if id(parameter) in resnet else "new"
        name = part if parameter.ndim > 1 else f"{part}_undecayed"
        extra = {} if parameter.ndim > 1 else {"weight_decay": 0.0}
        groups.setdefault(name, {"params": [], "name": name} | extra)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(factory: Callable[..., Optimizer], groups: list[dict[str, Any]]) -> Optimizer:
    """Build the optimiser ``model.optimizer``; ConfigError if it does not accept its arguments."""
    with as_config_error("model.optimizer"):
        optimizer = factory(groups)
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
def frozen_resnet(optimizer: Any, active: bool) -> Iterator[None]:
    """Set the learning rate of the ResNet's groups to 0 during a step.

    ``requires_grad`` cannot be used: DDP never reduces parameters that are unfrozen after it wraps the model.
    """
    plain: Optimizer = getattr(optimizer, "optimizer", optimizer)
    groups = [group for group in plain.param_groups if active and group["name"].startswith("resnet")]
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
