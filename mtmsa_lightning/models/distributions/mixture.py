"""Mixtures of distributions of age with equal weights: the prediction of an ensemble."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions.base import AgeDistribution, as_ages, check_probability, check_scale

_SECTIONS, _ROUNDS, _EXPORTED_ROUNDS = 8, 11, 6
"""Sections of the bracket of a quantile and rounds of the search: of 100 years 1e-8 remain.

Exported programs, which are unrolled, have fewer rounds: 4e-4 years remain.
"""


class MixtureAge(AgeDistribution):
    """The mixture of K distributions of the same N faces, each with weight 1 / K.

    With ``scale`` it is that of ``mean + scale * (age - mean)``.

    Args:
        parts: The distributions.
        scale: Factor of the distance from the mean, positive.
    """

    def __init__(self, parts: Sequence[AgeDistribution], scale: float = 1.0) -> None:
        check_scale(scale)
        self.parts = tuple(parts)
        self.scale = scale

    @property
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``: the mean of the means."""
        return self._stacked("mean").mean(0)

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``, by the law of total variance."""
        return (self.std_within.square() + self.std_between.square()).sqrt()

    @property
    def std_within(self) -> Tensor:
        """Root of the mean variance of the parts, ``(N,)``: what each of them does not know."""
        return self.scale * self._stacked("std").square().mean(0).sqrt()

    @property
    def std_between(self) -> Tensor:
        """Standard deviation of the means of the parts, divided by K, ``(N,)``: how much they disagree."""
        means = self._stacked("mean")
        return self.scale * (means - means.mean(0)).square().mean(0).sqrt()

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([getattr(part, name).double() for part in self.parts])

    def _unscaled(self, age: Tensor | float) -> Tensor:
        """Return the ages of the parts that ages of this distribution belong to."""
        mean = self.mean
        return mean + (as_ages(age, mean) - mean) / self.scale

    def gives(self, level: float | None = None) -> bool:
        """Return whether all parts have a distribution; intervals are those of the mixture."""
        return all(part.gives() for part in self.parts)

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high): the mean over the parts."""
        ends = self._unscaled(low), self._unscaled(high)
        return torch.stack([part.interval_prob(*ends) for part in self.parts]).mean(0)

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite where it is that of a part."""
        ends = self._unscaled(low), self._unscaled(high)
        return self._log_mean([part.log_interval_prob(*ends) for part in self.parts])

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year."""
        inner = self._unscaled(age)
        return self._log_mean([part.log_prob(inner) for part in self.parts]) - math.log(self.scale)

    def _log_mean(self, logarithms: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(logarithms)).logsumexp(0) - math.log(len(self.parts))

    def nearest(self, age: Tensor) -> Tensor:
        """Return the nearest age at which any part has a probability."""
        mean = self.mean
        inner = self._unscaled(age)
        each = torch.stack([part.nearest(inner) for part in self.parts])
        closest = (each - inner).abs().nan_to_num(0.0).argmin(0, keepdim=True)
        found = mean + self.scale * (each.gather(0, closest).squeeze(0) - mean)
        return torch.where(each.gather(0, closest).squeeze(0) == inner, as_ages(age, mean), found)

    def quantile(self, p: float) -> Tensor:
        """Return the quantile of probability ``p`` in years, ``(N,)``, between those of the parts."""
        check_probability(p)
        quantiles = torch.stack([part.quantile(p).double() for part in self.parts])
        low, width = quantiles.amin(0), quantiles.amax(0) - quantiles.amin(0)
        inner = torch.arange(1, _SECTIONS, dtype=low.dtype, device=low.device)[:, None] / _SECTIONS
        for _ in range(_EXPORTED_ROUNDS if torch.compiler.is_exporting() else _ROUNDS):
            points = low + width * inner
            below = torch.stack([part.interval_prob(-math.inf, points) for part in self.parts]).mean(0) < p
            width = width / _SECTIONS
            low = low + width * below.sum(0)
        mean = self.mean
        return mean + self.scale * (low + width / 2 - mean)

    def scaled(self, scale: float) -> Self:
        """Return the distribution of ``mean + scale * (age - mean)``, exactly."""
        check_scale(scale)
        return type(self)(self.parts, self.scale * scale)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces."""
        return type(self)([part[rows] for part in self.parts], self.scale)

    def columns(self) -> dict[str, Tensor]:
        """Return mean, std, its parts within and between, and the columns of the parts as ``age1_...``."""
        mean = self.mean
        found = {"age_mean": mean, "age_std": self.std}
        found |= {"age_std_within": self.std_within, "age_std_between": self.std_between}
        if self.scale != 1:
            found["age_mixture_scale"] = torch.full_like(mean, self.scale)
        for number, part in enumerate(self.parts, 1):
            found |= {
                f"age{number}_{name.removeprefix('age_')}": each for name, each in part.columns().items()
            }
        return found
