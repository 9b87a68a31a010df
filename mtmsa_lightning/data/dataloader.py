"""Data loaders and their worker processes."""

import signal
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from mtmsa_lightning._utils.signals import STOP_SIGNALS
from mtmsa_lightning.data.face_dataset import FaceDataset, collate
from mtmsa_lightning.data.samplers import EvalSampler, TrainSampler


def start_worker(_: int) -> None:
    """Set up a loader worker that ignores the first stop signal.

    Batch systems and Ctrl-C signal all processes of a job. The main process then finishes its step, for which
    it needs its workers, saves, and ends them itself.
    """
    cv2.setNumThreads(0)  # else each worker has a thread per core
    for stop in STOP_SIGNALS:
        signal.signal(stop, _ignore_once)


def _ignore_once(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)


class FaceLoader(DataLoader[Any]):
    """A loader that Lightning accepts as resumable within an epoch.

    Its state is empty: Lightning restores the state of loaders after their first batches, too late, so that
    the DataModule builds the loader at the batch from which a run continues.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing."""


def face_loader(
    dataset: FaceDataset,
    sampler: TrainSampler | EvalSampler,
    batch_size: int,
    num_workers: int,
    pin_memory: bool = False,
) -> FaceLoader:
    """Build the loader of one part, with persistent workers."""
    return FaceLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=start_worker,
        # of the workers' seeds: the global generator, which dropout uses, stays unchanged
        generator=torch.Generator(),
    )
