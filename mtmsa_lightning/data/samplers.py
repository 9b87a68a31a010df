"""Samplers: which face each process sees at each step."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch.utils.data import DistributedSampler

from mtmsa_lightning.data.augment.cpu import sample_seed
from mtmsa_lightning.data.dataset import FaceDataset, SampleKey


class TrainSampler(DistributedSampler[SampleKey]):
    """Shuffles by (seed, epoch) and deals the order out to the ranks like cards.

    The ranks' k-th batches together are the k-th batch of one process with the joined batch size. The last
    incomplete batch of an epoch is left out (another one each epoch); a set smaller than one batch is used
    whole, its last ranks filled up with padding. A subclass of ``DistributedSampler``, because Lightning
    replaces any other sampler under DDP.

    Args:
        dataset: The faces.
        batch_size: Faces per step and rank.
        seed: Seed of the shuffling.
        num_replicas: Number of ranks.
        rank: This rank.
        done: Epoch in which a continued run takes up, and the number of batches that it has behind it there.
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
    """Every face once, in order, dealt out to the ranks; short ranks are filled up with uncounted padding.

    Equal numbers of steps on all ranks keep collective operations in step (validation inside ``fit`` runs
    through DDP, which synchronises buffers), and the padding keeps the metrics exact.
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
