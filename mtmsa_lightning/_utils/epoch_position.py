"""What a run that stopped within an epoch needs to go on exactly, beside what Lightning saves.

The order of the faces, their augmentation and dropout are functions of seed, epoch, batch and rank, so that
only the place in the epoch is kept (by the DataModule) and the sums of the training metrics (by the model).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def batches_into_epoch(trainer: Any) -> int:
    """Return how many training batches of the present epoch are done; 0 at its start and from its last on."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return 0 if progress.is_last_batch else int(progress.current.ready)


def epochs_done(trainer: Any) -> int:
    """Return how many epochs are done, the one included at whose end a checkpoint is being saved."""
    return int(trainer.fit_loop.epoch_progress.current.processed)


@contextmanager
def place_in_epoch(trainer: Any) -> Iterator[None]:
    """Let a checkpoint that is saved at the end of an unfinished epoch say so.

    Lightning counts an epoch as done when it ends, however few of its batches are, and would continue with
    the next one. Its counters are set back to their values after the last batch; a finished epoch is left
    alone.
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
