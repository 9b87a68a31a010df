"""Saving and restoring of metric states within an epoch."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import CheckpointError

MetricSums = dict[str, dict[str, Any]]
"""Metric -> state -> value, with the number of updates as ``updates``."""


def gather_sums(metrics: Mapping[str, Metric]) -> list[MetricSums]:
    """Return the states, which are tensors, of metrics by name on all processes; all must call this."""
    sums: MetricSums = {}
    for name, metric in metrics.items():
        states: dict[str, Any] = dict(metric.metric_state)
        sums[name] = {key: value.detach().cpu().clone() for key, value in states.items()}
        sums[name]["updates"] = metric.update_count
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [sums]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, sums)
    return gathered


def restore_sums(metrics: Mapping[str, Metric], gathered: list[MetricSums], rank: int, ranks: int) -> None:
    """Restore the metric states that :func:`gather_sums` returned.

    CheckpointError if they are of another number of processes, which sample other faces, or other metrics.
    """
    if len(gathered) != ranks:
        saved = pluralize(len(gathered), "process", "processes")
        raise CheckpointError(
            f"the checkpoint was saved within an epoch by {saved}, not {ranks}: continue with "
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
