"""Normal distributions of age."""

import math
from statistics import NormalDist
from typing import Self

import torch
from torch import Tensor

from mtmsa_lightning.losses.special import log_normal_interval
from mtmsa_lightning.models.distributions.base import AgeDistribution, as_ages


class GaussianAge(AgeDistribution):
    """Normal distributions of age, in float64.

    Args:
        mean: Mean in years, ``(N,)``.
        std: Standard deviation in years, ``(N,)``, positive.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self._mean = mean.double()
        self._std = std.double()

    @property
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``."""
        return self._mean

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``."""
        return self._std

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high), with full relative accuracy in the far tails.

        Exported programs are accurate to 1e-7 only: their formats lack ``erfcx``.
        """
        if torch.compiler.is_exporting():
            return (_erf(self._standardise(high)) - _erf(self._standardise(low))) / 2
        return self.log_interval_prob(low, high).exp()

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite in the far tails."""
        return log_normal_interval(self._standardise(low), self._standardise(high))

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return -0.5 * self._standardise(age).square() - self._std.log() - 0.5 * math.log(2 * math.pi)

    def quantile(self, p: float) -> Tensor:
        """Return the quantile of probability ``p`` in years, ``(N,)``."""
        if not 0 < p < 1:
            raise ValueError(f"a quantile needs a probability between 0 and 1, both excluded, got {p}")
        return self._mean + self._std * NormalDist().inv_cdf(p)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score in years, in closed form (Gneiting & Raftery 2007).

        ``std * [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`` with ``z = (age - mean) / std``.
        """
        z = self._standardise(age)
        density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
        return self._std * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))

    def scaled(self, scale: float) -> Self:
        """Return distributions with the same mean and ``scale`` times the standard deviation."""
        if not 0 < scale < math.inf:
            raise ValueError(f"a scale must be positive and finite, got {scale}")
        return type(self)(self._mean, self._std * scale)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces."""
        return type(self)(self._mean[rows], self._std[rows])

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean`` and ``age_std`` in years."""
        return {"age_mean": self._mean, "age_std": self._std}

    def _standardise(self, age: Tensor | float) -> Tensor:
        age = as_ages(age, self._mean)
        # An infinite bound would give std the gradient inf * 0.
        return (age.clamp(-1e150, 1e150) - self._mean) / self._std


def _erf(z: Tensor) -> Tensor:
    """Return ``2 Phi(z) - 1`` in float32: ONNX Runtime has no error function in float64."""
    return torch.erf((z / math.sqrt(2)).float()).double()
