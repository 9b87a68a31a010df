"""Predictive distributions of age."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning.losses import log_normal_interval

_NODES = 96
"""Nodes of the numerical score on each side of the true age."""


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

    @abstractmethod
    def widened(self, scale: float) -> Self:
        """Return the distribution with its standard deviation multiplied by ``scale`` about its mean.

        Raises:
            ValueError: If ``scale`` is not positive and finite.
        """

    @abstractmethod
    def columns(self) -> dict[str, Tensor]:
        """Return what a table must hold, ``(N,)`` each, for :func:`distribution_from_columns` to read it."""

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high); override it where the probability itself underflows."""
        return self.interval_prob(low, high).log()

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Return both ends, ``(N,)`` in years, of the central interval that holds ``level`` of the mass."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score of ``age``, in years; less is better.

        ``integral of (F(x) - [x >= age])^2 dx`` with F the cumulative distribution (Gneiting & Raftery, JASA
        102, 2007, section 4.2, there with the opposite sign), by Gauss-Legendre quadrature on both sides of
        ``age``, the tails beyond 1e-9 left out. Override it where there is a closed form.
        """
        first, last = self.quantile(1e-9), self.quantile(1 - 1e-9)
        age = torch.as_tensor(age, dtype=first.dtype, device=first.device)
        inside = torch.minimum(torch.maximum(age, first), last)
        total = (age - inside).abs()  # there F is 0 or 1
        nodes, weights = (part.tolist() for part in np.polynomial.legendre.leggauss(_NODES))
        for share, weight in zip([(node + 1) / 2 for node in nodes], [w / 2 for w in weights], strict=True):
            low, high = first + share * (inside - first), inside + share * (last - inside)
            total = total + weight * (inside - first) * self.interval_prob(-math.inf, low).square()
            total = total + weight * (last - inside) * self.interval_prob(high, math.inf).square()
        return total

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

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score in years, in closed form (Gneiting & Raftery 2007).

        ``std * [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`` with ``z = (age - mean) / std``.
        """
        z = self._standardise(age)
        density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
        return self._std * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))

    def widened(self, scale: float) -> Self:
        """Return the normal distribution of the same mean and ``scale`` times the standard deviation."""
        if not 0 < scale < math.inf:
            raise ValueError(f"a scale must be positive and finite, got {scale}")
        return type(self)(self._mean, self._std * scale)

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean`` and ``age_std`` in years."""
        return {"age_mean": self._mean, "age_std": self._std}

    def _standardise(self, age: Tensor | float) -> Tensor:
        age = torch.as_tensor(age, dtype=torch.float64, device=self._mean.device)
        # An infinite bound would give std the gradient inf * 0.
        return (age.clamp(-1e150, 1e150) - self._mean) / self._std


class CalibratedAge(AgeDistribution):
    """A distribution of age whose intervals at some levels were fitted on held-out faces.

    Args:
        base: The distribution; all but the intervals is its own.
        intervals: Both ends in years, ``(N,)``, by level.
    """

    def __init__(self, base: AgeDistribution, intervals: Mapping[float, tuple[Tensor, Tensor]]) -> None:
        self.base = base
        self.intervals = dict(intervals)

    @property
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``."""
        return self.base.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``."""
        return self.base.std

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Return both ends in years of the fitted interval, else of the central one of that mass."""
        return self.intervals[level] if level in self.intervals else self.base.interval(level)

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high)."""
        return self.base.interval_prob(low, high)

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high)."""
        return self.base.log_interval_prob(low, high)

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return self.base.log_prob(age)

    def quantile(self, p: float) -> Tensor:
        """Return the age in years that is not exceeded with probability ``p``, ``(N,)``."""
        return self.base.quantile(p)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score of ``age``, in years."""
        return self.base.crps(age)

    def widened(self, scale: float) -> Self:
        """Return the distribution with its standard deviation multiplied; the fitted intervals stay."""
        return type(self)(self.base.widened(scale), self.intervals)

    def columns(self) -> dict[str, Tensor]:
        """Return the columns of the distribution, and ``age_low90, age_high90`` and so on."""
        columns = self.base.columns()
        for level, (low, high) in self.intervals.items():
            columns |= {f"age_low{round(100 * level)}": low, f"age_high{round(100 * level)}": high}
        return columns


def distribution_from_columns(columns: Mapping[str, Tensor]) -> AgeDistribution:
    """Read a distribution back from a table that holds its :meth:`AgeDistribution.columns`.

    Columns ``age_low<percent>`` and ``age_high<percent>``, where there are any, are its intervals.

    Args:
        columns: Column names to values, ``(N,)`` each; others are left alone.

    Raises:
        ValueError: If no distribution can be made of them.
    """
    missing = [name for name in ("age_mean", "age_std") if name not in columns]
    if missing:
        raise ValueError(f"no column {' and no column '.join(missing)}: no distribution of age can be read")
    if not (columns["age_std"] > 0).all():
        raise ValueError("age_std must be positive in every row")
    age = GaussianAge(columns["age_mean"], columns["age_std"])
    percents = [match[1] for match in map(re.compile(r"age_low(\d+)").fullmatch, columns) if match]
    intervals = {
        int(percent) / 100: (columns[f"age_low{percent}"].double(), columns[f"age_high{percent}"].double())
        for percent in percents
    }
    return CalibratedAge(age, intervals) if intervals else age
