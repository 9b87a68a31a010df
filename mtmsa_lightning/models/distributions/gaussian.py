"""Normal distributions of age."""

import math
from statistics import NormalDist

import torch
from torch import Tensor

from mtmsa_lightning.losses.special import log_normal_interval
from mtmsa_lightning.models.distributions.base import LocationScaleAge


class GaussianAge(LocationScaleAge):
    """Normal distributions of age, in float64.

    Args:
        mean: Mean in years, ``(N,)``.
        std: Standard deviation in years, ``(N,)``, positive.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__(mean, std)

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``."""
        return self._scale

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high), with full relative accuracy in the far tails.

        Exported programs are accurate to 1e-7 only: their formats lack ``erfcx``.
        """
        if torch.compiler.is_exporting():
            return (_erf(self.standardise(high)) - _erf(self.standardise(low))) / 2
        return super().interval_prob(low, high)

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite in the far tails."""
        return log_normal_interval(self.standardise(low), self.standardise(high))

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return -0.5 * self.standardise(age).square() - self._scale.log() - 0.5 * math.log(2 * math.pi)

    @staticmethod
    def standard_quantile(p: float) -> float:
        """Return the quantile of N(0, 1)."""
        return NormalDist().inv_cdf(p)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score in years, in closed form (Gneiting & Raftery 2007).

        ``std * [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`` with ``z = (age - mean) / std``.
        """
        z = self.standardise(age)
        density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
        return self._scale * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean`` and ``age_std`` in years."""
        return {"age_mean": self._mean, "age_std": self._scale}


def _erf(z: Tensor) -> Tensor:
    """Return ``2 Phi(z) - 1`` in float32: ONNX Runtime has no error function in float64."""
    return torch.erf((z / math.sqrt(2)).float()).double()
