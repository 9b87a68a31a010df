"""What a run that stopped within an epoch needs to go on exactly, beside what Lightning saves.

The order of the faces, their augmentation and dropout are functions of seed, epoch, batch and rank, so that
only the place in the epoch is kept (by the DataModule) and the sums of the training metrics (by the model).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning._utils.text import counted
from mtmsa_lightning.errors import CheckpointError

MetricSums = dict[str, dict[str, Any]]
"""Metric -> state -> its value so far, with the number of updates as ``updates``."""


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


def gather_sums(metrics: Mapping[str, Metric]) -> list[MetricSums]:
    """Return what the metrics of every process have summed up; all processes call this.

    Args:
        metrics: Metrics whose states are tensors, by name.
    """
    sums: MetricSums = {
        name: {key: _kept(value) for key, value in metric.metric_state.items()}
        | {"updates": metric.update_count}
        for name, metric in metrics.items()
    }
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [sums]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, sums)
    return gathered


def _kept(state: Any) -> Tensor:
    value: Tensor = state.detach().cpu().clone()
    return value


def restore_sums(metrics: Mapping[str, Metric], gathered: list[MetricSums], rank: int, ranks: int) -> None:
    """Let metrics go on from what :func:`gather_sums` returned.

    Raises:
        CheckpointError: If it came from another number of processes, which deal the faces out otherwise, or
            from metrics that summed up other things.
    """
    if len(gathered) != ranks:
        raise CheckpointError(
            "the checkpoint was saved within an epoch by "
            f"{counted(len(gathered), 'process', 'processes')}, not {ranks}: continue with "
            f"{len(gathered)} (--trainer.devices, --trainer.num_nodes), or from the end of an epoch"
        )
    for name, states in gathered[rank].items():
        metric = metrics.get(name)
        if metric is None or states.keys() - {"updates"} != metric.metric_state.keys():
            raise CheckpointError(
                f"the checkpoint was saved within an epoch with another {name} than this version's: continue "
                "from the end of an epoch"
            )
        for key, value in states.items():
            if isinstance(value, Tensor):
                setattr(metric, key, value.to(metric.device))
        metric._update_count = states["updates"]
