"""Scores of the predicted distribution of age; contract as in :mod:`mtmsa_lightning.metrics.age`.

A label outside the years of a categorical head has no likelihood under it. The negative log-likelihoods count
it as the nearest of these years, as the head's loss does
(:meth:`~mtmsa_lightning.models.distributions.AgeDistribution.nearest`); every other metric takes it as it
is.
"""

from typing import Any

from torch import Tensor

from mtmsa_lightning.metrics.masked_mean import MaskedMean
from mtmsa_lightning.models.distributions import AgeDistribution


class AgeNLL(MaskedMean):
    """Mean negative log-likelihood of exact ages: ``-log density``, nats per face, density per year."""

    is_differentiable = True
    higher_is_better = False

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative logarithm of the density, of faces with an exact age."""
        return -distribution.log_prob(distribution.nearest(low)), low == high


class AgeIntervalNLL(MaskedMean):
    """Mean negative log-likelihood of age groups: ``-log P(low - 0.5 < age <= high + 0.5)``, nats per face.

    Only faces with a group as label (``low < high``) count.
    """

    is_differentiable = True
    higher_is_better = False

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative logarithm of the group's probability, of faces with a group."""
        first, last = distribution.nearest(low), distribution.nearest(high)
        return -distribution.log_interval_prob(first - 0.5, last + 0.5), low < high


class AgeCRPS(MaskedMean):
    """Mean continuous ranked probability score of exact ages, in years.

    ``integral of (F(x) - [x >= age])^2 dx`` with F the predicted cumulative distribution (Gneiting & Raftery,
    "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102, 2007, section 4.2, there with the
    opposite sign). Of a prediction without spread it is the absolute error.
    """

    is_differentiable = True
    higher_is_better = False

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score of faces with an exact age."""
        return distribution.crps(low), low == high


class IntervalCoverage(MaskedMean):
    """Share of faces whose label lies in the central prediction interval of ``level``, a fraction in 0 to 1.

    An exact age is covered when the closed interval holds it, a group when the interval holds both its ends.
    Best at ``level`` for exact ages.

    Args:
        level: Nominal level, between 0 and 1.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the level is out of range.
    """

    is_differentiable = False
    higher_is_better = None

    def __init__(self, level: float = 0.9, **kwargs: Any) -> None:
        super().__init__(settings=[level], **kwargs)
        self.level = _checked(level)

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether the label is covered, of faces with a label."""
        first, last = distribution.interval(self.level)
        return (first <= low) & (high <= last), ~low.isnan()


class IntervalWidth(MaskedMean):
    """Mean width of the central prediction interval of ``level`` over labelled faces, in years.

    Args:
        level: Nominal level, between 0 and 1.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the level is out of range.
    """

    is_differentiable = True
    higher_is_better = False

    def __init__(self, level: float = 0.9, **kwargs: Any) -> None:
        super().__init__(settings=[level], **kwargs)
        self.level = _checked(level)

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the width, of faces with a label."""
        first, last = distribution.interval(self.level)
        return last - first, ~low.isnan()


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, both excluded, got {level}")
    return level
