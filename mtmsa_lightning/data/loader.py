"""Data loaders and their worker processes."""

import signal
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from mtmsa_lightning._utils.signals import STOP_SIGNALS
from mtmsa_lightning.data.dataset import FaceDataset, collate
from mtmsa_lightning.data.samplers import EvalSampler, TrainSampler


def single_threaded_worker(_: int) -> None:
    """Keep OpenCV from starting a thread pool in every loader worker."""
    cv2.setNumThreads(0)


def start_worker(number: int) -> None:
    """Start a loader worker that lives on where a run is told to stop.

    Batch systems signal all processes of a job, and Ctrl-C all of a terminal. The run then saves after its
    step, for which it needs its workers, and ends them itself; so they let the first signal pass.
    """
    single_threaded_worker(number)
    for stop in STOP_SIGNALS:
        signal.signal(stop, _let_pass_once)


def _let_pass_once(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)


class FaceLoader(DataLoader[Any]):
    """A loader that Lightning knows to be resumable within an epoch.

    Its state is none of its own: the DataModule builds it at the place where a run takes up. Lightning would
    restore a loader's state too late, after it has been asked for its first batches.
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
    """Build the loader of one part; workers stay alive over epochs, since keys tell them the epoch."""
    return FaceLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=start_worker,
        # iterators draw a seed for their workers: from here, so that dropout's draws do not depend on it
        generator=torch.Generator(),
    )
