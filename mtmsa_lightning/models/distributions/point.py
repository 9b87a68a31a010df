"""Predicted ages without a distribution."""

from typing import Self

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions.base import AgeDistribution, as_ages, check_probability, check_scale


class PointAge(AgeDistribution):
    """Single ages, in float64: all probability is at one age.

    Metrics of a distribution say nothing about it, see :meth:`gives`.

    Args:
        age: Predicted age in years, ``(N,)``.
    """

    def __init__(self, age: Tensor) -> None:
        self._age = age.double()

    @property
    def mean(self) -> Tensor:
        """The age in years, ``(N,)``."""
        return self._age

    @property
    def std(self) -> Tensor:
        """Zeros, ``(N,)``."""
        return torch.zeros_like(self._age)

    def gives(self, level: float | None = None) -> bool:
        """Return False: there is neither a distribution nor an interval."""
        return False

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return 1 where low < age <= high, else 0."""
        return ((as_ages(low, self._age) < self._age) & (self._age <= as_ages(high, self._age))).double()

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return infinity at the age and -infinity elsewhere."""
        return torch.where(as_ages(age, self._age) == self._age, torch.inf, -torch.inf).double()

    def quantile(self, p: float) -> Tensor:
        """Return the age, ``(N,)``."""
        check_probability(p)
        return self._age

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the absolute error in years, to which the score reduces."""
        return (as_ages(age, self._age) - self._age).abs()

    def scaled(self, scale: float) -> Self:
        """Return the same ages."""
        check_scale(scale)
        return type(self)(self._age)

    def __getitem__(self, rows: slice) -> Self:
        """Return the ages of some faces."""
        return type(self)(self._age[rows])

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean`` and ``age_point``, both the age in years."""
        return {"age_mean": self._age, "age_point": self._age}
