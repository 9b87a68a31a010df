"""Metrics of one process.

The LightningModule's own metrics are the only ones that communicate: all processes compute them at the same
time. Whatever else computes a metric does so from faces that it holds already, often on the first process
alone, where a metric that asks the others would wait for ever.
"""

from typing import TypeVar

from torchmetrics import Metric

M = TypeVar("M", bound=Metric)


def without_sync(metric: M) -> M:
    """Let a metric count what this process gives it, whatever other processes there are."""
    metric.distributed_available_fn = _never  # sync_on_compute is read in the constructor only
    return metric


def _never() -> bool:
    return False
