"""Base class of metrics that average a value per face."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtmsa_lightning.metrics.base import Labels, PlotMetric, Predictions, age_inputs, check_shapes
from mtmsa_lightning.models.distributions import AgeDistribution

PerFace = tuple[Tensor, Tensor]
"""Value of each face, ``(N,)``, and whether it is valid, bool ``(N,)``."""


class MaskedMean(PlotMetric, ABC):
    """Base class of age metrics that average a value per face over the valid faces.

    Subclasses implement :meth:`per_face`. States are sums, so that results are exact over uneven ranks.
    ``compute`` returns a float64 scalar, NaN without valid faces.

    ``torchmetrics.MetricCollection`` updates only one of several metrics whose states have equal names and,
    after the first batch, equal values. The name of the sum therefore contains the class and the settings.

    Args:
        settings: Settings that the values of :meth:`per_face` depend on.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    count: Tensor

    def __init__(self, settings: Sequence[object] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sum_name = re.sub(r"\W", "_", "_".join(["sum", type(self).__name__, *map(repr, settings)]))
        self.add_state(self._sum_name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the value of each face and whether it is valid.

        Args:
            preds: Predicted distributions of N faces.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        """

    def of_mean(self, mean: Tensor) -> Tensor:
        """Return the metric for the mean of the values."""
        return mean

    def update(self, preds: Predictions, target: Labels, high: Tensor | None = None) -> None:
        """Add a batch; arguments as for :func:`~mtmsa_lightning.metrics.base.age_inputs`.

        Raises:
            ValueError: If there is not one prediction per label.
        """
        values, valid = self.per_face(*age_inputs(preds, target, high))
        check_shapes(values, valid)
        batch = torch.where(valid, values.double(), 0.0).sum()
        setattr(self, self._sum_name, getattr(self, self._sum_name) + batch)
        self.count += valid.sum()

    def compute(self) -> Tensor:
        """Return the metric over all valid faces so far."""
        return self.of_mean(getattr(self, self._sum_name) / self.count)
