"""Sampling of several sources by weights and caps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.data.samplers import TrainSampler, weighted_order


def faces_per_epoch(
    sizes: Mapping[str, int], weights: Mapping[str, float], caps: Mapping[str, int]
) -> dict[str, int]:
    """Return the number of faces that an epoch takes from each source.

    A weight is how often an epoch uses each face of the source, 1 by default; a cap is the most faces of a
    source in an epoch.
    """
    return {
        name: min(max(1, round(weights.get(name, 1.0) * size)), caps.get(name, 2**63)) if size else 0
        for name, size in sizes.items()
    }


class MixtureSampler(TrainSampler):
    """Shuffle the faces of several sources, with a fixed number of each in every epoch.

    The faces of a source are drawn by (seed, epoch, number of the source), all equally often or by weights.
    If each face is used once, the order is that of :class:`.TrainSampler`.

    Args:
        dataset: The faces.
        amounts: Number of faces of each source in an epoch.
        frequencies: Relative frequencies of the faces of each source; None for equal ones.
        *args: Further arguments of :class:`.TrainSampler`.
    """

    def __init__(
        self,
        dataset: JoinedDataset,
        amounts: Sequence[int],
        frequencies: Sequence[ArrayLike | None],
        *args: Any,
    ) -> None:
        self.amounts = tuple(amounts)
        self.frequencies = tuple(frequencies)
        self.sizes = tuple(len(part) for part in dataset.parts)
        super().__init__(dataset, *args)

    def epoch_size(self) -> int:
        """Return the number of faces in an epoch."""
        return sum(self.amounts)

    def order(self, generator: torch.Generator) -> Tensor:
        """Return the faces in the order of the epoch, shape (epoch_size,)."""
        rows, start = [], 0
        sources = zip(self.frequencies, self.sizes, self.amounts, strict=True)
        for number, (weights, size, amount) in enumerate(sources):
            if weights is None and amount == size:
                drawn = torch.arange(size)
            else:
                own = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, -2 - number))
                frequency = torch.ones(size) if weights is None else torch.as_tensor(weights)
                drawn = weighted_order(frequency.double(), own, amount)
            rows.append(start + drawn)
            start += size
        return torch.cat(rows)[torch.randperm(self.size, generator=generator)]
