"""The position within an epoch, for runs that stop and continue there.

The order of the faces, their augmentation and dropout are functions of seed, epoch, batch and rank. So only
the position (by the DataModule) and the sums of the training metrics (by the model) are saved.
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
    """Set Lightning's counters for a checkpoint within an epoch.

    Lightning counts an epoch as finished when it ends early, and would continue with the next one. Its
    counters are set to their values after the last batch. Nothing changes for a finished epoch.
    """
    loop = trainer.fit_loop
    counters = [loop.epoch_progress.current, loop.epoch_progress.total]
    fields = [(each, "processed") for each in counters]
    batches = loop.epoch_loop.batch_progress
    fields += [(each, "completed") for each in (batches.current, batches.total)]
    fields += [(loop.epoch_loop, "_batches_that_stepped")]
    unfinished = batches_into_epoch(trainer) > 0
    for owner, name in fields if unfinished else ():
        setattr(owner, name, getattr(owner, name) - 1)
    try:
        yield
    finally:
        for owner, name in fields if unfinished else ():
            setattr(owner, name, getattr(owner, name) + 1)
