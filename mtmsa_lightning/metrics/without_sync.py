"""Metrics that do not wait for other processes, as those outside the LightningModule must not."""

from typing import TypeVar

from torchmetrics import Metric

M = TypeVar("M", bound=Metric)


def without_sync(metric: M) -> M:
    """Return the metric with synchronisation turned off."""
    metric.distributed_available_fn = bool  # returns False; sync_on_compute is only read in the constructor
    return metric
