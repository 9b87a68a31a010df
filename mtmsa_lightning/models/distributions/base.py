"""The contract of a predictive distribution of age, and what follows from it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor

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
    def scaled(self, scale: float) -> Self:
        """Return the distribution of the same mean and ``scale`` times the standard deviation.

        Where the support is bounded or in steps the latter holds about; a scale of 1 changes nothing.

        Raises:
            ValueError: If ``scale`` is not positive and finite.
        """

    @abstractmethod
    def columns(self) -> dict[str, Tensor]:
        """Return what a table must hold, ``(N,)`` each, for :func:`distribution_from_columns` to read it."""

    @abstractmethod
    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces of the batch."""

    def nearest(self, age: Tensor) -> Tensor:
        """Return the age that a likelihood is taken at: the label, or the nearest year that has a mass.

        A head with a probability for each year learns a label outside its years as the nearest of them, and
        is judged by the same rule: otherwise one such label makes every mean of a likelihood infinite.
        """
        return age

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
        age = as_ages(age, first)
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


def printed_age(years: Tensor) -> Tensor:
    """Return ages, or ends of intervals of age, as they are printed: cut at 0.

    A predictive distribution may have mass below 0. Whatever a reader takes for an age is cut there: columns
    of tables, outputs of exported files, reports, pictures, pages, ``AgeEstimator``. Metrics and comparisons
    use the distribution as it is; tables hold it in columns that end in ``_unclipped``.
    """
    return years.clamp(min=0)


def as_ages(age: Tensor | float, like: Tensor) -> Tensor:
    """Return ages in float64 on the device of ``like``; a number is filled in there, as a copy would wait."""
    if isinstance(age, Tensor):
        return age.to(like.device, torch.float64)
    return torch.full((), age, dtype=torch.float64, device=like.device)
