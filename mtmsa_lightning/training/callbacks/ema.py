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
"""Tensors of an average and of a network, grouped by type for one kernel launch each."""


class EMA(WeightAveraging):
    """Exponential moving average of weights and buffers, which is validated, saved and tested.

    ``average <- decay * average + (1 - decay) * weights`` after every optimiser step, starting with the
    weights after the first one; integer buffers are copied. Unlike Lightning's ``EMAWeightAveraging``, the
    average is kept on the device of the network and updated without synchronisation, and a test after the
    training uses the average of the checkpoint.

    Raises:
        ConfigError: The decay is not from 0 to below 1.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema {decay:g}: the decay must be from 0 to below 1, such as 0.999")
        super().__init__()
        self.decay = decay
        self._pairs: Pairs = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the average on the device and in the precision of the network."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self._average_model is not None:
            trainer.precision_plugin.convert_module(self._average_model.module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pair the tensors of average and network, which are then changed in place."""
        assert self._average_model is not None
        self._pairs = pair_up(self._average_model.module, pl_module)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Update the average after an optimiser step."""
        if self._average_model is None or trainer.global_step <= self._latest_update_step:
            return
        move_towards(self._pairs, 1 - self.decay if self._latest_update_step else 1.0)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore average and weights for a fit; a test or validation loads the average as the weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
            if "averaging_state" in checkpoint:
                self._latest_update_step = checkpoint["global_step"]


def pair_up(average: nn.Module, network: nn.Module) -> Pairs:
    """Return the tensors that an average and its network share."""
    found: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    now = dict(chain(network.named_parameters(), network.named_buffers()))
    for name, kept in chain(average.named_parameters(), average.named_buffers()):
        if name in now:  # the constants of metrics depend on the age groups of the data
            lists = found.setdefault(kept.dtype, ([], []))
            lists[0].append(kept)
            lists[1].append(now[name])
    return list(found.values())


@torch.no_grad()
def move_towards(pairs: Pairs, weight: float) -> None:
    """Move an average towards its network, in place: 1 makes them equal. Integers are copied."""
    for kept, new in pairs:
        if kept[0].is_floating_point():
            torch._foreach_lerp_(kept, new, weight)
        else:
            torch._foreach_copy_(kept, new)
