"""Predictive distributions of age."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mtmsa_lightning.losses import log_normal_interval


class AgeDistribution(ABC):
    """One distribution of age per face of a batch, on the continuous axis of years.

    Bounds are taken as they are: a caller who asks for completed years ``low`` to ``high`` passes ``low -
    0.5`` and ``high + 0.5``. Ages and bounds are numbers or tensors that broadcast with ``(N,)``.
    """

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``."""

    @property
    @abstractmethod
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``."""

    @abstractmethod
    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high); bounds may be infinite, and ``low < high``."""

    @abstractmethod
    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""

    @abstractmethod
    def quantile(self, p: float) -> Tensor:
        """Return the age in years that is not exceeded with probability ``p``, ``(N,)``.

        Raises:
            ValueError: If ``p`` is not between 0 and 1, both excluded.
        """

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high); override it where the probability itself underflows."""
        return self.interval_prob(low, high).log()

    def group_probs(self, edges: Sequence[float]) -> Tensor:
        """Return the probability of each cell between edges; the first and the last cell are open.

        Args:
            edges: Increasing edges in years; an age on an edge belongs to the cell below.

        Returns:
            Probabilities ``(N, len(edges) + 1)`` that sum to 1 for each face.
        """
        cells = pairwise([-math.inf, *edges, math.inf])
        return torch.stack([self.interval_prob(low, high) for low, high in cells], dim=1)


class GaussianAge(AgeDistribution):
    """Normal distribution of age, in float64.

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
        """Return P(low < age <= high), with full relative accuracy in the far tails."""
        return self.log_interval_prob(low, high).exp()

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite in the far tails."""
        return log_normal_interval(self._standardise(low), self._standardise(high))

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return -0.5 * self._standardise(age).square() - self._std.log() - 0.5 * math.log(2 * math.pi)

    def quantile(self, p: float) -> Tensor:
        """Return the age in years that is not exceeded with probability ``p``, ``(N,)``."""
        if not 0 < p < 1:
            raise ValueError(f"a quantile needs a probability between 0 and 1, both excluded, got {p}")
        z: Tensor = torch.special.ndtri(self._mean.new_tensor(p))
        return self._mean + self._std * z

    def _standardise(self, age: Tensor | float) -> Tensor:
        age = torch.as_tensor(age, dtype=torch.float64, device=self._mean.device)
        # An infinite bound would give std the gradient inf * 0.
        return (age.clamp(-1e150, 1e150) - self._mean) / self._std
