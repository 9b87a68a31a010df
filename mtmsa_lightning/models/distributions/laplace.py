"""Laplace distributions of age."""

import math
from typing import Self

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions.base import AgeDistribution, as_ages


class LaplaceAge(AgeDistribution):
    """Laplace (two-sided exponential) distributions of age, in float64.

    Args:
        mean: Mean in years, ``(N,)``.
        scale: Mean absolute deviation in years, ``(N,)``, positive; ``std = sqrt(2) * scale``.
    """

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        self._mean = mean.double()
        self._scale = scale.double()

    @property
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``."""
        return self._mean

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``."""
        return self._scale * math.sqrt(2)

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high), with full relative accuracy in the far tails."""
        return self.log_interval_prob(low, high).exp()

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite in the far tails.

        An interval on one side of the mean is mirrored to the positive side: ``log(1/2) - near + log(1 -
        exp(near - far))`` in units of the scale. For an interval around the mean the two sides are added.
        """
        low, high = self._standardise(low), self._standardise(high)
        mirrored = low + high < 0
        near, far = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
        aside = near > 0
        # Branches that are not taken get a finite interval: where() would multiply a NaN gradient by 0.
        tail_near, tail_far = torch.where(aside, near, 1.0), torch.where(aside, far, 2.0)
        left, right = torch.where(aside, -1.0, near), torch.where(aside, 1.0, far)
        tail = torch.log(-torch.expm1(tail_near - tail_far)) - tail_near
        around = torch.log(-torch.expm1(left) - torch.expm1(-right))
        return torch.where(aside, tail, around) - math.log(2)

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return -self._standardise(age).abs() - self._scale.log() - math.log(2)

    def quantile(self, p: float) -> Tensor:
        """Return the quantile of probability ``p`` in years, ``(N,)``."""
        if not 0 < p < 1:
            raise ValueError(f"a quantile needs a probability between 0 and 1, both excluded, got {p}")
        distance = -math.log(2 * min(p, 1 - p))
        return self._mean + self._scale * math.copysign(distance, p - 0.5)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score in years, in closed form.

        ``scale * (|z| + exp(-|z|) - 3/4)`` with ``z = (age - mean) / scale``.
        """
        distance = self._standardise(age).abs()
        return self._scale * (distance + (-distance).exp() - 0.75)

    def scaled(self, scale: float) -> Self:
        """Return distributions with the same mean and ``scale`` times the standard deviation."""
        if not 0 < scale < math.inf:
            raise ValueError(f"a scale must be positive and finite, got {scale}")
        return type(self)(self._mean, self._scale * scale)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces."""
        return type(self)(self._mean[rows], self._scale[rows])

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean``, ``age_std`` and ``age_laplace_scale`` in years."""
        return {"age_mean": self._mean, "age_std": self.std, "age_laplace_scale": self._scale}

    def _standardise(self, age: Tensor | float) -> Tensor:
        age = as_ages(age, self._mean)
        # An infinite bound would give the scale the gradient inf * 0.
        return (age.clamp(-1e150, 1e150) - self._mean) / self._scale
