"""Samplers of training and evaluation, over one or several ranks."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch.utils.data import DistributedSampler

from mtmsa_lightning.data.augment.cpu import sample_seed
from mtmsa_lightning.data.face_dataset import FaceDataset, SampleKey


class TrainSampler(DistributedSampler[SampleKey]):
    """Shuffles by (seed, epoch) and distributes the indices over the ranks in turn.

    The k-th batches of all ranks together equal the k-th batch of one process with the joined batch size. The
    last incomplete batch of an epoch is dropped; a dataset smaller than one batch is used as a whole, with
    padding for the last ranks. Lightning replaces any sampler but a ``DistributedSampler`` under DDP.

    Args:
        dataset: The faces.
        batch_size: Faces per step and rank.
        seed: Seed of the shuffling.
        num_replicas: Number of ranks.
        rank: This rank.
        done: Epoch from which a run continues, and the number of finished batches in it.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        done: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed)
        self.epoch, batches = done
        self._done = {self.epoch: batches * batch_size}
        joined = batch_size * num_replicas
        self.size = len(dataset)
        self.used = self.size // joined * joined or self.size
        self.num_samples = -(-self.used // num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, -1))
        order = torch.randperm(self.size, generator=generator).tolist()[: self.used]
        keys = shard_indices(order, self.num_samples, self.num_replicas, self.rank, self.epoch)
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


def shard_indices(
    order: list[int], length: int, ranks: int, rank: int, epoch: int = 0
) -> Iterator[SampleKey]:
    """Yield ``length`` keys of ``rank``: every ``ranks``-th index of the order, then padding."""
    for position in range(rank, length * ranks, ranks):
        padding = position >= len(order)
        yield SampleKey(order[0] if padding else order[position], epoch, padding)
