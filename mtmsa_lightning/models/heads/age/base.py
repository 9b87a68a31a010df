"""The contract of an age head."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mtmsa_lightning.models.distributions import AgeDistribution


class AgeHead(nn.Module, ABC):
    """Contract of a head that predicts age: features to raw outputs to a distribution, and a loss.

    A head may work in standardised units inside and speaks years outside. Before training, the mean and
    standard deviation of age over the training split go in through :meth:`set_age_statistics`; they travel in
    the state dict. Labels are completed years, exact (both ends equal) or groups, and may be missing.

    Attributes:
        age_mean: Mean age in years, float64 scalar, 0 until set.
        age_std: Standard deviation of age in years, float64 scalar, 1 until set.
        fitted: Whether the statistics have been set.
        init_args: Constructor arguments but ``in_features``, as plain values, from which to rebuild the head.
    """

    age_mean: Tensor
    age_std: Tensor
    fitted: Tensor
    init_args: dict[str, Any]

    @property
    def year_range(self) -> tuple[int, int] | None:
        """First and last year that labels may have; None for a head that learns any age."""
        return None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("age_mean", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("age_std", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))
        self.init_args = {}

    def forward(self, features: Tensor) -> AgeDistribution:
        """Return the distribution of age for features ``(N, in_features)``."""
        return self.distribution(self.raw(features))

    @abstractmethod
    def raw(self, features: Tensor) -> Tensor:
        """Return the raw outputs for features ``(N, in_features)``: ``(N, R)``, R of the head's own."""

    @abstractmethod
    def distribution(self, raw: Tensor) -> AgeDistribution:
        """Return the distribution of age, in years, that raw outputs stand for."""

    @abstractmethod
    def per_sample(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the loss of each labelled face, ``(N,)``; arguments as for :meth:`loss`, float64, no NaN."""

    def loss(self, raw: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the float64 sum of the losses of labelled rows, and their count.

        Args:
            raw: Raw outputs, ``(N, R)``.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        """
        labelled = ~(low + high).isnan()
        # Rows without a label get harmless values: where() would multiply their NaN gradients by 0.
        raw = torch.where(labelled[:, None], raw.double(), 0.0)
        low, high = (torch.where(labelled, bound.double(), self.age_mean) for bound in (low, high))
        losses = torch.where(labelled, self.per_sample(raw, low, high), 0.0)
        return losses.sum(), labelled.sum()

    def set_age_statistics(self, mean: float, std: float) -> None:
        """Set the mean and standard deviation of age over the training split, in years.

        Raises:
            ValueError: If the mean is not finite or the standard deviation is not positive and finite.
        """
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"age statistics must be finite with std > 0, got mean {mean} and std {std}")
        self.age_mean.fill_(mean)
        self.age_std.fill_(std)
        self.fitted.fill_(True)


def interval_residual(age: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return by how much an age lies off its label: ``age - label``, and 0 anywhere within a group."""
    return age - age.clamp(low, high)
