"""Metrics of age: states are sums, so they are exact over uneven ranks; missing labels are masked out."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning.models.age_distribution import AgeDistribution


class MaskedMean(Metric):
    """Base of metrics that average a value per face over the faces that count.

    ``compute`` gives a float64 scalar, NaN when nothing was counted.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the mean over all faces counted so far."""
        return self.total / self.count

    def _accumulate(self, values: Tensor, counted: Tensor) -> None:
        """Add the values ``(N,)`` of the faces that are counted, a bool mask ``(N,)``.

        Raises:
            ValueError: If the shapes differ (broadcasting would count pairs of faces).
        """
        if values.shape != counted.shape:
            raise ValueError(f"{tuple(values.shape)} predictions for {tuple(counted.shape)} labels")
        self.total += torch.where(counted, values.double(), 0.0).sum()
        self.count += counted.sum()


class AgeMAE(MaskedMean):
    """Mean absolute error of age in years, over faces with an exact label: mean of ``|prediction - age|``."""

    is_differentiable = True
    higher_is_better = False

    def update(self, prediction: Tensor, low: Tensor, high: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: Predicted ages in years, ``(N,)``.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; faces with ``low < high`` (a group) are not counted.
        """
        self._accumulate((prediction - low).abs(), low == high)


class CumulativeScore(MaskedMean):
    """Cumulative score CS@n: share of faces with ``|prediction - age| <= n``, a fraction in 0 to 1.

    The prediction is not rounded. Only faces with an exact label count.

    Args:
        threshold: Tolerance n in years, included.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, threshold: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def update(self, prediction: Tensor, low: Tensor, high: Tensor) -> None:
        """Add a batch; arguments as for :class:`AgeMAE`."""
        self._accumulate((prediction - low).abs() <= self.threshold, low == high)


class AgeNLL(MaskedMean):
    """Mean negative log-likelihood of exact ages: ``-log density``, nats per face, density per year."""

    is_differentiable = True
    higher_is_better = False

    def update(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> None:
        """Add a batch.

        Args:
            distribution: Predicted distributions of N faces.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; faces with ``low < high`` (a group) are not counted.
        """
        self._accumulate(-distribution.log_prob(low), low == high)


class AgeIntervalNLL(MaskedMean):
    """Mean negative log-likelihood of age groups: ``-log P(low - 0.5 < age <= high + 0.5)``, nats per face.

    Only faces with a group as label (``low < high``) count.
    """

    is_differentiable = True
    higher_is_better = False

    def update(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> None:
        """Add a batch; arguments as for :class:`AgeNLL`."""
        self._accumulate(-distribution.log_interval_prob(low - 0.5, high + 0.5), low < high)
