"""Sampling of several sources by weights and caps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from mtmsa_lightning.data.augment.cpu import sample_seed
from mtmsa_lightning.data.face_dataset import SampleKey
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.data.samplers import TrainSampler


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


def draw_source(size: int, amount: int, generator: torch.Generator) -> Iterator[tuple[int, int]]:
    """Yield ``amount`` faces of a source as (row, repeat): all as often as possible, the rest at random."""
    whole, rest = divmod(amount, size) if size else (0, 0)
    for repeat in range(whole):
        yield from ((row, repeat) for row in range(size))
    if rest:
        yield from ((row, whole) for row in torch.randperm(size, generator=generator)[:rest].tolist())


class MixtureSampler(TrainSampler):
    """Shuffle the faces of several sources, with a fixed number of each in every epoch.

    Which faces of a source are used follows from (seed, epoch) and the source; with one of each face, the
    order is that of :class:`.TrainSampler`.

    Args:
        dataset: The faces.
        amounts: Number of faces of each source in an epoch.
        *args: See :class:`.TrainSampler`.
    """

    def __init__(self, dataset: JoinedDataset, amounts: Sequence[int], *args: Any) -> None:
        self.faces, self.amounts = len(dataset), tuple(amounts)
        self.sizes = [len(part) for part in dataset.parts]
        super().__init__(dataset, *args)

    def epoch_size(self) -> int:
        """Return the number of faces in an epoch."""
        return sum(self.amounts)

    def order(self) -> list[int]:
        """Return row + repeat x number of faces, in the order of the epoch."""
        codes, start = [], 0
        for number, (size, amount) in enumerate(zip(self.sizes, self.amounts, strict=True)):
            generator = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, -2 - number))
            drawn = draw_source(size, amount, generator)
            codes += [start + row + repeat * self.faces for row, repeat in drawn]
            start += size
        return [codes[position] for position in super().order()]

    def __iter__(self) -> Iterator[SampleKey]:
        for code, epoch, padding, _ in super().__iter__():
            repeat, row = divmod(code, self.faces)
            yield SampleKey(row, epoch, padding, repeat)
