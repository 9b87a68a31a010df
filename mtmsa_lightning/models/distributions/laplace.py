"""Laplace distributions of age."""

import math

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions.base import LocationScaleAge


class LaplaceAge(LocationScaleAge):
    """Laplace (two-sided exponential) distributions of age, in float64.

    Args:
        mean: Mean in years, ``(N,)``.
        scale: Mean absolute deviation in years, ``(N,)``, positive; ``std = sqrt(2) * scale``.
    """

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``."""
        return self._scale * math.sqrt(2)

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite in the far tails.

        An interval on one side of the mean is mirrored to the positive side: ``log(1/2) - near + log(1 -
        exp(near - far))`` in units of the scale. For an interval around the mean the two sides are added.
        """
        low, high = self.standardise(low), self.standardise(high)
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
        return -self.standardise(age).abs() - self._scale.log() - math.log(2)

    @staticmethod
    def standard_quantile(p: float) -> float:
        """Return the quantile at mean 0 and scale 1."""
        return math.copysign(-math.log(2 * min(p, 1 - p)), p - 0.5)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score in years, in closed form.

        ``scale * (|z| + exp(-|z|) - 3/4)`` with ``z = (age - mean) / scale``.
        """
        distance = self.standardise(age).abs()
        return self._scale * (distance + (-distance).exp() - 0.75)

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean``, ``age_std`` and ``age_laplace_scale`` in years."""
        return {"age_mean": self._mean, "age_std": self.std, "age_laplace_scale": self._scale}
