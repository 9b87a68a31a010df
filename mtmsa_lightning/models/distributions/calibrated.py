"""A distribution of age with intervals of its own."""

from collections.abc import Mapping
from typing import Self

from torch import Tensor

from mtmsa_lightning.models.distributions.base import AgeDistribution


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

    def nearest(self, age: Tensor) -> Tensor:
        """Return the age that a likelihood is taken at."""
        return self.base.nearest(age)

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return self.base.log_prob(age)

    def quantile(self, p: float) -> Tensor:
        """Return the age in years that is not exceeded with probability ``p``, ``(N,)``."""
        return self.base.quantile(p)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score of ``age``, in years."""
        return self.base.crps(age)

    def scaled(self, scale: float) -> Self:
        """Return the distribution with its standard deviation multiplied; the fitted intervals stay."""
        return type(self)(self.base.scaled(scale), self.intervals)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces of the batch, with their intervals."""
        intervals = {level: (low[rows], high[rows]) for level, (low, high) in self.intervals.items()}
        return type(self)(self.base[rows], intervals)

    def columns(self) -> dict[str, Tensor]:
        """Return the columns of the distribution, and ``age_low90, age_high90`` and so on."""
        columns = self.base.columns()
        for level, (low, high) in self.intervals.items():
            columns |= {f"age_low{round(100 * level)}": low, f"age_high{round(100 * level)}": high}
        return columns
