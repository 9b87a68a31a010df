"""Base class of predictive distributions of age."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor

_NODES = 96
"""Nodes of the numerical CRPS on each side of the true age."""


class AgeDistribution(ABC):
    """Distributions of age for a batch of N faces, over continuous years.

    Bounds are not extended: pass ``low - 0.5`` and ``high + 0.5`` for the completed years ``low`` to
    ``high``. Ages and bounds are numbers or tensors that broadcast with ``(N,)``. Indexing by a slice gives
    the distributions of some faces.
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
        """Return the quantile of probability ``p`` in years, ``(N,)``; ValueError unless ``0 < p < 1``."""

    @abstractmethod
    def scaled(self, scale: float) -> Self:
        """Return distributions with the same mean and ``scale`` times the standard deviation.

        It is approximate for bounded or discrete supports. ValueError unless positive and finite.
        """

    @abstractmethod
    def columns(self) -> dict[str, Tensor]:
        """Return the columns, ``(N,)`` each, that :func:`distribution_from_columns` reads."""

    @abstractmethod
    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces of the batch."""

    def gives(self, level: float | None = None) -> bool:
        """Return whether the prediction has an interval of ``level``, or with None a whole distribution."""
        return True

    def nearest(self, age: Tensor) -> Tensor:
        """Return the age at which the likelihood of a label is evaluated: the nearest one with a probability.

        One label without a likelihood would make every mean infinite.
        """
        return age

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high); override it if the probability itself can underflow."""
        return self.interval_prob(low, high).log()

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Return both ends, ``(N,)`` in years, of the central interval of probability ``level``."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score (CRPS) of ``age``, in years; lower is better.

        ``integral of (F(x) - [x >= age])^2 dx`` with F the cumulative distribution (Gneiting & Raftery, JASA
        102, 2007, section 4.2, with the opposite sign), by Gauss-Legendre quadrature on both sides of
        ``age``, without the tails beyond 1e-9. Override it if there is a closed form.
        """
        first, last = self.quantile(1e-9), self.quantile(1 - 1e-9)
        age = as_ages(age, first)
        inside = torch.minimum(torch.maximum(age, first), last)
        total = (age - inside).abs()  # there F is 0 or 1
        nodes, weights = (part.tolist() for part in np.polynomial.legendre.leggauss(_NODES))
        for node, weight in zip(nodes, weights, strict=True):
            position = (node + 1) / 2
            low, high = first + position * (inside - first), inside + position * (last - inside)
            total = total + weight / 2 * (inside - first) * self.interval_prob(-math.inf, low).square()
            total = total + weight / 2 * (last - inside) * self.interval_prob(high, math.inf).square()
        return total

    def group_probs(self, edges: Sequence[float]) -> Tensor:
        """Return the probability of each cell between increasing edges in years, ``(N, len(edges) + 1)``.

        An age on an edge belongs to the cell below; the first and the last cell are open.
        """
        cells = pairwise([-math.inf, *edges, math.inf])
        return torch.stack([self.interval_prob(low, high) for low, high in cells], dim=1)


class LocationScaleAge(AgeDistribution):
    """Distributions ``mean + scale * Z`` with a standard variable Z, in float64.

    Args:
        mean: Mean in years, ``(N,)``.
        scale: Scale in years, ``(N,)``, positive.
    """

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        self._mean, self._scale = mean.double(), scale.double()

    @property
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``."""
        return self._mean

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high), with full relative accuracy in the far tails."""
        return self.log_interval_prob(low, high).exp()

    def quantile(self, p: float) -> Tensor:
        """Return the quantile of probability ``p`` in years, ``(N,)``."""
        check_probability(p)
        return self._mean + self._scale * self.standard_quantile(p)

    @staticmethod
    @abstractmethod
    def standard_quantile(p: float) -> float:
        """Return the quantile of Z."""

    def scaled(self, scale: float) -> Self:
        """Return distributions with the same mean and ``scale`` times the standard deviation."""
        check_scale(scale)
        return type(self)(self._mean, self._scale * scale)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces."""
        return type(self)(self._mean[rows], self._scale[rows])

    def standardise(self, age: Tensor | float) -> Tensor:
        """Return ages in scales from the mean; an infinite one would give the scale the gradient inf * 0."""
        ages = as_ages(age, self._mean)
        if not torch.compiler.is_exporting():  # two clamps of one tensor make onnxscript's optimiser fail
            ages = ages.clamp(-1e150, 1e150)
        return (ages - self._mean) / self._scale


def check_probability(p: float) -> None:
    """Raise ValueError unless ``p`` is between 0 and 1, both excluded."""
    if not 0 < p < 1:
        raise ValueError(f"a quantile needs a probability between 0 and 1, both excluded, got {p}")


def check_scale(scale: float) -> None:
    """Raise ValueError unless ``scale`` is positive and finite."""
    if not 0 < scale < math.inf:
        raise ValueError(f"a scale must be positive and finite, got {scale}")


def printed_age(years: Tensor) -> Tensor:
    """Return ages, or ends of age intervals, clipped at 0 for output.

    Metrics and comparisons use the unclipped distribution, which may have mass below 0.
    """
    return years.clamp(min=0)


def as_ages(age: Tensor | float, like: Tensor) -> Tensor:
    """Return ages in float64 on the device of ``like``, without a copy that would wait for the device."""
    if isinstance(age, Tensor):
        return age.to(like.device, torch.float64)
    return torch.full((), age, dtype=torch.float64, device=like.device)
