"""The exponential moving average of the weights (``--ema``)."""

from itertools import chain
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from mtmsa_lightning.errors import ConfigError

Pairs = list[tuple[list[Tensor], list[Tensor]]]
"""Tensors of an average and of a network, by type, so that each type takes one launch."""


class EMA(WeightAveraging):
    """Averages weights and buffers over the steps, and lets the average be validated, saved and tested.

    ``average <- decay * average + (1 - decay) * weights`` after every optimiser step, starting at the weights
    after the first one; buffers of whole numbers are copied. Lightning's own class for this builds the
    average before the network is on its device, so that every step copies all weights to the CPU, goes tensor
    by tensor, asking the device how many steps there were, and puts the weights of the last step back when
    the average of a checkpoint is to be tested after the training.

    Args:
        decay: Fraction of the average that a step keeps, from 0 to below 1.

    Raises:
        ConfigError: If the decay is something else.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema {decay:g}: the decay must be from 0 to below 1, such as 0.999")
        super().__init__()
        self.decay = decay
        self._pairs: Pairs = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the average where the network will be, in the precision that it will have."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._average_model is not None:
            trainer.precision_plugin.convert_module(self._average_model.module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the tensors of both; from here on they are changed in place."""
        assert self._average_model is not None
        self._pairs = pair_up(self._average_model.module, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a step's weights in; none while gradients are accumulated."""
        if self._average_model is None or trainer.global_step <= self._latest_update_step:
            return
        move_towards(self._pairs, 1 - self.decay if self._latest_update_step else 1.0)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue with average and weights; a test or validation is one of the average alone."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
            if "averaging_state" in checkpoint:
                self._latest_update_step = checkpoint["global_step"]


def pair_up(average: nn.Module, network: nn.Module) -> Pairs:
    """Return the tensors of an average and of its network, without those that only one of them has."""
    found: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    now = dict(chain(network.named_parameters(), network.named_buffers()))
    for name, kept in chain(average.named_parameters(), average.named_buffers()):
        if name in now:  # a metric's constants come and go with the age groups of the data
            lists = found.setdefault(kept.dtype, ([], []))
            lists[0].append(kept)
            lists[1].append(now[name])
    return list(found.values())


@torch.no_grad()
def move_towards(pairs: Pairs, weight: float) -> None:
    """Move an average towards its network, in place.

    Args:
        pairs: Their tensors; whole numbers become those of the network.
        weight: Share of the way: 1 makes them equal.
    """
    for kept, new in pairs:
        if kept[0].is_floating_point():
            torch._foreach_lerp_(kept, new, weight)
        else:
            torch._foreach_copy_(kept, new)
