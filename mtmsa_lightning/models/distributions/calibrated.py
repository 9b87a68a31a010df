"""Distributions of age with calibrated intervals."""

from collections.abc import Mapping
from typing import Self

from torch import Tensor

from mtmsa_lightning.models.distributions.base import AgeDistribution


def without_intervals(age: AgeDistribution) -> AgeDistribution:
    """Return a distribution without fitted intervals."""
    return age.base if isinstance(age, CalibratedAge) else age


class CalibratedAge(AgeDistribution):
    """Distributions of age with intervals at some levels that were fitted on held-out faces.

    Args:
        base: The distribution, used for everything except these intervals.
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

    def gives(self, level: float | None = None) -> bool:
        """Return whether there is an interval of ``level``, or with None a whole distribution."""
        return level in self.intervals or self.base.gives(level)

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Return both ends in years of the fitted interval, else of the central interval of ``base``."""
        return self.intervals[level] if level in self.intervals else self.base.interval(level)

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high)."""
        return self.base.interval_prob(low, high)

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high)."""
        return self.base.log_interval_prob(low, high)

    def nearest(self, age: Tensor) -> Tensor:
        """Return the age at which the likelihood of a label is evaluated."""
        return self.base.nearest(age)

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        return self.base.log_prob(age)

    def quantile(self, p: float) -> Tensor:
        """Return the quantile of probability ``p`` in years, ``(N,)``."""
        return self.base.quantile(p)

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score of ``age``, in years."""
        return self.base.crps(age)

    def scaled(self, scale: float) -> Self:
        """Return distributions with the standard deviation scaled; the fitted intervals do not change."""
        return type(self)(self.base.scaled(scale), self.intervals)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces, with their intervals."""
        intervals = {level: (low[rows], high[rows]) for level, (low, high) in self.intervals.items()}
        return type(self)(self.base[rows], intervals)

    def columns(self) -> dict[str, Tensor]:
        """Return the columns of the distribution and of its intervals, such as ``age_low90``."""
        columns = self.base.columns()
        for level, (low, high) in self.intervals.items():
            columns |= {f"age_low{round(100 * level)}": low, f"age_high{round(100 * level)}": high}
        return columns
