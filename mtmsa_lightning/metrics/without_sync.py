"""Metrics without synchronisation between processes.

Only the metrics of the LightningModule communicate, because all processes compute them at the same time.
Metrics that are computed elsewhere, often on the first process only, must not wait for the other processes.
"""

from typing import TypeVar

from torchmetrics import Metric

M = TypeVar("M", bound=Metric)


def without_sync(metric: M) -> M:
    """Return the metric with synchronisation turned off."""
    metric.distributed_available_fn = bool  # returns False; sync_on_compute is only read in the constructor
    return metric
