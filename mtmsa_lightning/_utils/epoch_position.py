"""The position within an epoch, for runs that stop and continue there.

Order, augmentation and dropout are functions of seed, epoch, batch and rank, and need not be saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def batches_into_epoch(trainer: Any) -> int:
    """Return the number of finished batches of the current epoch; 0 at its start and after its last batch."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return 0 if progress.is_last_batch else int(progress.current.ready)


def epochs_done(trainer: Any) -> int:
    """Return the number of finished epochs, including one whose checkpoint is being saved."""
    return int(trainer.fit_loop.epoch_progress.current.processed)


@contextmanager
def place_in_epoch(trainer: Any) -> Iterator[None]:
    """Set Lightning's counters for a checkpoint within an epoch to their values after the last batch.

    Lightning counts an epoch as finished when it ends early, and would continue with the next one.
    """
    if not batches_into_epoch(trainer):
        yield
        return
    epochs, loop = trainer.fit_loop.epoch_progress, trainer.fit_loop.epoch_loop
    fields = [(each, "processed") for each in (epochs.current, epochs.total)]
    fields += [(each, "completed") for each in (loop.batch_progress.current, loop.batch_progress.total)]
    fields += [(loop, "_batches_that_stepped")]
    for owner, name in fields:
        setattr(owner, name, getattr(owner, name) - 1)
    try:
        yield
    finally:
        for owner, name in fields:
            setattr(owner, name, getattr(owner, name) + 1)
