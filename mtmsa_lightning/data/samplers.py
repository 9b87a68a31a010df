"""Samplers of training and evaluation, over one or several ranks."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DistributedSampler

from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.data.face_dataset import FaceDataset, SampleKey


class TrainSampler(DistributedSampler[SampleKey]):
    """Shuffles by (seed, epoch) and distributes the indices over the ranks in turn.

    The k-th batches of all ranks together equal the k-th batch of one process with the joined batch size. The
    last incomplete batch of an epoch is dropped; a dataset smaller than one batch is used as a whole, with
    padding for the last ranks. Lightning replaces any sampler but a ``DistributedSampler`` under DDP.

    With ``weights`` an epoch has as many faces as without, but each of them about ``N weight / sum(weights)``
    times, rounded up or down at random. Repeats are numbered in their keys, so that they are augmented
    differently.

    Args:
        dataset: The faces.
        batch_size: Faces per step and rank.
        seed: Seed of the shuffling.
        num_replicas: Number of ranks.
        rank: This rank.
        done: Epoch from which a run continues, and the number of finished batches in it.
        weights: Relative frequency of each face; None uses each face once.

    Raises:
        ValueError: If the weights are not one finite number per face, none negative and not all zero.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        done: tuple[int, int] = (0, 0),
        weights: ArrayLike | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed)
        self.epoch, batches = done
        self._done = {self.epoch: batches * batch_size}
        joined = batch_size * num_replicas
        self.size = self.epoch_size()
        self.used = self.size // joined * joined or self.size
        self.num_samples = -(-self.used // num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.weights = (
            None if weights is None else _checked(torch.as_tensor(np.asarray(weights)), len(dataset))
        )

    def epoch_size(self) -> int:
        """Return the number of faces in an epoch."""
        return len(self.dataset)  # type: ignore[arg-type]

    def order(self, generator: torch.Generator) -> Tensor:
        """Return the faces in the order of the epoch, shape (epoch_size,)."""
        if self.weights is None:
            return torch.randperm(self.size, generator=generator)
        return weighted_order(self.weights, generator)

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, -1))
        order = self.order(generator).tolist()
        copies = pd.Series(order).groupby(order).cumcount().tolist()
        shard = self.num_samples, self.num_replicas, self.rank, self.epoch
        keys = shard_indices(order[: self.used], *shard, copies)
        return islice(keys, self._done.get(self.epoch, 0), None)


class EvalSampler(DistributedSampler[SampleKey]):
    """Yields every face once, in order, distributed over the ranks in turn, with padding for short ranks.

    All ranks have the same number of steps, which collective operations need. Metrics ignore padding.
    """

    def __init__(self, dataset: FaceDataset, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.size = len(dataset)

    def __iter__(self) -> Iterator[SampleKey]:
        return shard_indices(list(range(self.size)), self.num_samples, self.num_replicas, self.rank)


def weighted_order(weights: Tensor, generator: torch.Generator, amount: int | None = None) -> Tensor:
    """Draw ``amount`` of N faces with repeats, by systematic sampling in a random order.

    A face is drawn ``amount weight / sum(weights)`` times, rounded down or up at random.
    With equal weights and ``amount`` N every face is drawn once.

    Args:
        weights: Float64, shape (N,).
        generator: Random state.
        amount: Number of draws; by default N.

    Returns:
        Indices in random order, shape (amount,).
    """
    amount = len(weights) if amount is None else amount
    faces = torch.randperm(len(weights), generator=generator)
    ends = weights[faces].cumsum(0)
    ends = ends / ends[-1] * amount
    starts = torch.arange(amount) + torch.rand((), generator=generator, dtype=torch.float64)
    drawn = faces[torch.searchsorted(ends, starts, right=True)]
    return drawn[torch.randperm(amount, generator=generator)]


def _checked(weights: Tensor, size: int) -> Tensor:
    weights = weights.double()
    valid = weights.shape == (size,) and bool((weights.isfinite() & (weights >= 0)).all())
    if not valid or not weights.any():
        raise ValueError(f"weights must be {size} finite numbers, none negative and not all zero")
    return weights


def shard_indices(
    order: list[int],
    length: int,
    ranks: int,
    rank: int,
    epoch: int = 0,
    copies: Sequence[int] | None = None,
) -> Iterator[SampleKey]:
    """Yield ``length`` keys of ``rank``: every ``ranks``-th index of the order, then padding."""
    for position in range(rank, length * ranks, ranks):
        padding = position >= len(order)
        used = 0 if padding else position
        yield SampleKey(order[used], epoch, padding, copies[used] if copies else 0)
