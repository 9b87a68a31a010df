"""The mean of a value per face over the faces that count."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning.models.distributions import AgeDistribution


class MaskedMean(Metric, ABC):
    """Base of metrics of age that average a value per face over the faces that count.

    A metric says in :meth:`per_face` what its values are and which faces count. States are sums, so it is
    exact over uneven ranks. ``compute`` gives a float64 scalar, NaN when nothing was counted.

    ``torchmetrics.MetricCollection`` updates only one of several metrics whose states have equal names and,
    after the first batch, equal values. The sum is therefore named by the class and by the settings that its
    values depend on.

    Args:
        settings: All that the values of :meth:`per_face` depend on beside the faces.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    count: Tensor

    def __init__(self, settings: Sequence[object] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sum_name = re.sub(r"\W", "_", "_".join(["sum", type(self).__name__, *map(repr, settings)]))
        self.add_state(self._sum_name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return a value per face, ``(N,)``, of any content where the face does not count, and who counts.

        Args:
            distribution: Predicted distributions of N faces.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        """

    def of_mean(self, mean: Tensor) -> Tensor:
        """Return the metric, given the mean of the values."""
        return mean

    def update(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> None:
        """Add a batch; arguments as for :meth:`per_face`.

        Raises:
            ValueError: If there is not one prediction per label.
        """
        values, counted = self.per_face(distribution, low, high)
        check_shapes(values, low)
        batch = torch.where(counted, values.double(), 0.0).sum()
        setattr(self, self._sum_name, getattr(self, self._sum_name) + batch)
        self.count += counted.sum()

    def compute(self) -> Tensor:
        """Return the metric over all faces counted so far."""
        return self.of_mean(getattr(self, self._sum_name) / self.count)


def check_shapes(values: Tensor, labels: Tensor) -> None:
    """Refuse values and labels of different shapes: broadcasting would count pairs of faces.

    Raises:
        ValueError: If they differ.
    """
    if values.shape != labels.shape:
        raise ValueError(f"{tuple(values.shape)} predictions for {tuple(labels.shape)} labels")
