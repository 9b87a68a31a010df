"""Base class of age heads."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mtmsa_lightning.models.distributions import AgeDistribution
from mtmsa_lightning.models.heads.float32_linear import Float32Linear


class AgeHead(nn.Module, ABC):
    """Base class of heads that predict a distribution of age.

    A head maps features to raw outputs and raw outputs to a distribution, and defines a loss. It may use
    standardised units internally; its inputs and outputs are in years. :meth:`set_age_statistics` sets the
    mean and standard deviation of the training ages before training; they are saved in the state dict. Labels
    are completed years, exact (both ends equal) or groups, and may be missing.

    Attributes:
        age_mean: Mean age in years, float64 scalar, 0 until set.
        age_std: Standard deviation of age in years, float64 scalar, 1 until set.
        fitted: Whether the statistics have been set.
        init_args: Constructor arguments except ``in_features``, as plain values, to rebuild the head.
    """

    age_mean: Tensor
    age_std: Tensor
    fitted: Tensor
    init_args: dict[str, Any]

    @property
    def year_range(self) -> tuple[int, int] | None:
        """First and last year of the labels; None if any age is allowed."""
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
        """Return the raw outputs ``(N, R)`` for features ``(N, in_features)``."""

    @abstractmethod
    def distribution(self, raw: Tensor) -> AgeDistribution:
        """Return the distribution of age, in years, for raw outputs."""

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
        # Rows without a label get finite values: where() would multiply their NaN gradients by 0.
        raw = torch.where(labelled[:, None], raw.double(), 0.0)
        low, high = (torch.where(labelled, bound.double(), self.age_mean) for bound in (low, high))
        losses = torch.where(labelled, self.per_sample(raw, low, high), 0.0)
        return losses.sum(), labelled.sum()

    def set_age_statistics(self, mean: float, std: float) -> None:
        """Set the mean and standard deviation of the training ages, in years; ValueError unless finite."""
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"age statistics must be finite with std > 0, got mean {mean} and std {std}")
        self.age_mean.fill_(mean)
        self.age_std.fill_(std)
        self.fitted.fill_(True)


class LinearAgeHead(AgeHead):
    """Base of heads whose R raw outputs are a linear function of the features, after dropout."""

    def __init__(self, in_features: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = Float32Linear(in_features, outputs)
        nn.init.zeros_(self.linear.bias)

    def raw(self, features: Tensor) -> Tensor:
        """Return the raw outputs, ``(N, R)``."""
        outputs: Tensor = self.linear(self.dropout(features))
        return outputs


def interval_residual(age: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return ``age - label``; the signed distance to the nearer end for groups, 0 inside them."""
    return age - age.clamp(low, high)
