"""The exponential moving average of the weights (``--ema``)."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn


class MovingAverage(WeightAveraging):
    """Averages weights and buffers over the steps, and lets the average be validated, saved and tested.

    ``average <- decay * average + (1 - decay) * weights`` after every optimiser step, starting at the weights
    after the first one; buffers of whole numbers are copied. Lightning's own class for this builds the
    average before the network is on its device, so that every step copies all weights to the CPU, and goes
    tensor by tensor, asking the device how many steps there were.

    Args:
        decay: Share of the average that a step keeps, 0 to 1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the average where the network will be."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a step's weights in; none while gradients are accumulated."""
        average = self._average_model
        if average is None or trainer.global_step <= self._latest_update_step:
            return
        move_towards(average.module, pl_module, 1 - self.decay if self._latest_update_step else 1.0)
        average.n_averaged += 1
        self._latest_update_step = trainer.global_step


@torch.no_grad()
def move_towards(average: nn.Module, network: nn.Module, weight: float) -> None:
    """Move parameters and buffers of an average towards those of a network.

    Args:
        average: Changed in place; whole numbers become those of the network.
        network: A network of the same tensors on the same device.
        weight: Share of the way: 1 makes them equal.
    """
    for dtype, (kept, new) in _by_dtype(average, network).items():
        if dtype.is_floating_point:
            torch._foreach_lerp_(kept, new, weight)
        else:
            torch._foreach_copy_(kept, new)


def _by_dtype(average: nn.Module, network: nn.Module) -> dict[torch.dtype, tuple[list[Tensor], list[Tensor]]]:
    """Return the tensors of both, so that each kind takes one launch."""
    found: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    now = dict(_tensors(network))
    for name, kept in _tensors(average):
        if name in now:  # metrics come and go with the labels of the data
            lists = found.setdefault(kept.dtype, ([], []))
            lists[0].append(kept)
            lists[1].append(now[name])
    return found


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(network.named_parameters(), network.named_buffers())
