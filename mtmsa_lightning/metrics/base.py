"""Base class and inputs of the metrics."""

from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning.models.distributions import AgeDistribution

Predictions = AgeDistribution | Tensor
"""Distributions of age of N faces, or predicted ages in years, ``(N,)``."""

Labels = Tensor | tuple[Tensor, Tensor]
"""Ages in completed years, ``(N,)``, NaN where missing; or the pair (low, high) of the ends of age groups."""

M = TypeVar("M", bound=Metric)

CS_YEARS = 5.0
"""Default threshold of the cumulative score."""

CS_LIMIT = 30
"""Default last year of the curve of cumulative scores and of the area below it."""

ECE_BINS = 15
"""Default bins of the expected calibration error."""

ENCE_BINS = 10
"""Default bins of the expected normalised calibration error."""


class PlotMetric(Metric):
    """A torchmetrics ``Metric`` with a default plot."""

    full_state_update = False

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot values, by default ``compute()``, and return figure and axes; needs matplotlib."""
        return self._plot(val, ax)


class PointPredictions:
    """Predicted ages ``(N,)`` without a distribution."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean.double()

    def group_probs(self, edges: tuple[float, ...]) -> Tensor:
        """Return probability 1 for the cell of each age, ``(N, len(edges) + 1)``; see ``AgeDistribution``."""
        cells = torch.bucketize(self.mean, self.mean.new_tensor(edges))
        return F.one_hot(cells, len(edges) + 1).where(~self.mean.isnan()[:, None], torch.nan)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(
            "this metric needs a predictive distribution of age, such as GaussianAge(mean, std), and got a "
            "tensor of ages"
        )


def age_inputs(
    preds: Predictions, target: Labels, high: Tensor | None = None
) -> tuple[AgeDistribution, Tensor, Tensor]:
    """Return predictions and the lower and upper ends of the labels.

    Args:
        preds: Distributions of N faces, or ages in years, ``(N,)``.
        target: Ages in completed years, ``(N,)``, NaN where missing; lower ends of age groups if ``high`` is
            given; or the pair of both ends.
        high: Upper ends, ``(N,)``; equal to ``target`` for an exact age.

    Raises:
        ValueError: If the labels have different shapes, or both a pair and ``high`` are given.
    """
    if isinstance(target, Tensor):
        low, high = target, target if high is None else high
    elif high is None:
        low, high = target
    else:
        raise ValueError("give the ends of the labels either as a pair or as two arguments")
    check_shapes(low, high)
    check_shapes(preds if isinstance(preds, Tensor) else preds.mean, low)
    return cast(AgeDistribution, PointPredictions(preds) if isinstance(preds, Tensor) else preds), low, high


def check_shapes(values: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless there is one value per label, so that they do not broadcast."""
    if values.shape != labels.shape:
        raise ValueError(f"{tuple(values.shape)} predictions for {tuple(labels.shape)} labels")


def predicted_classes(probs: Tensor) -> Tensor:
    """Return the most probable class, ``(N,)``; -1, which equals no label, if a probability is NaN."""
    return torch.where(probs.isnan().any(dim=1), -1, probs.argmax(dim=1))


def without_sync(metric: M) -> M:
    """Return a metric that does not wait for other processes, as one outside the LightningModule must not."""
    metric.distributed_available_fn = bool  # returns False; sync_on_compute is only read in the constructor
    return metric
