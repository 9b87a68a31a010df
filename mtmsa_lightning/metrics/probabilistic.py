"""Metrics of the predicted distribution of age; arguments as in :mod:`mtmsa_lightning.metrics.age`.

They need distributions and raise a ``TypeError`` for plain ages. A label outside the years of a categorical
head has no likelihood. The negative log-likelihoods use the nearest year instead, as the head's loss does
(:meth:`~mtmsa_lightning.models.distributions.AgeDistribution.nearest`); other metrics use the label itself.
"""

from typing import Any

from torch import Tensor

from mtmsa_lightning.metrics.masked_mean import MaskedMean, PerFace
from mtmsa_lightning.models.distributions import AgeDistribution
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL


class AgeNLL(MaskedMean):
    """Mean negative log-likelihood of exact ages: ``-log density``, nats per face, density per year."""

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the negative logarithm of the density, of faces with an exact age."""
        return -preds.log_prob(preds.nearest(low)), low == high


class AgeIntervalNLL(MaskedMean):
    """Mean negative log-likelihood of age groups: ``-log P(low - 0.5 < age <= high + 0.5)``, nats per face.

    Only faces with an age group as label (``low < high``) are used.
    """

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the negative logarithm of the group's probability, of faces with a group."""
        ends = preds.nearest(low) - 0.5, preds.nearest(high) + 0.5
        return -preds.log_interval_prob(*ends), low < high


class AgeCRPS(MaskedMean):
    """Mean continuous ranked probability score of exact ages, in years.

    ``integral of (F(x) - [x >= age])^2 dx`` with F the predicted cumulative distribution (Gneiting & Raftery,
    "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102, 2007, section 4.2, with the
    opposite sign). For a standard deviation towards 0 it is the absolute error.
    """

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the score of faces with an exact age."""
        return preds.crps(low), low == high


class _IntervalMetric(MaskedMean):
    """Base of metrics of the central prediction interval of a level."""

    def __init__(self, level: float = INTERVAL_LEVEL, **kwargs: Any) -> None:
        super().__init__(settings=[level], **kwargs)
        if not 0 < level < 1:
            raise ValueError(f"a level must lie between 0 and 1, both excluded, got {level}")
        self.level = level


class IntervalCoverage(_IntervalMetric):
    """Fraction of faces whose label lies in the central prediction interval of ``level``.

    An age is covered if the closed interval contains it, a group if the interval contains both its ends. The
    best value for exact ages is ``level``.

    Args:
        level: Nominal level, between 0 and 1.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the level is out of range.
    """

    is_differentiable = False
    higher_is_better = None

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return whether the label is covered, of faces with a label."""
        first, last = preds.interval(self.level)
        return (first <= low) & (high <= last), ~low.isnan()


class IntervalWidth(_IntervalMetric):
    """Mean width of the central prediction interval of ``level`` over labelled faces, in years.

    Arguments and errors as for :class:`IntervalCoverage`.
    """

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the width, of faces with a label."""
        first, last = preds.interval(self.level)
        return last - first, ~low.isnan()
