"""Metrics of apparent age: predictions against the mean and standard deviation of people's guesses.

Updated by ``update(preds, target, high)``: distributions of age of N faces, or ages in years, and as
``target`` and ``high`` the mean and the standard deviation of the guesses in years, NaN where missing. A
standard deviation of 0 means that all guesses were equal.
"""

import math

import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning.metrics.masked_mean import MaskedMean, PerFace
from mtmsa_lightning.metrics.probabilistic import IntervalCoverage
from mtmsa_lightning.models.distributions import AgeDistribution

_NODES = 32
"""Nodes of the quadrature over the guesses."""


class EpsilonError(MaskedMean):
    """Epsilon error of apparent age: ``mean of 1 - exp(-(prediction - mean)^2 / (2 std^2))``, in [0, 1].

    Escalera et al., "ChaLearn Looking at People 2015: Apparent Age and Cultural Event Recognition", ICCV
    Workshops 2015. Where the standard deviation is 0, the error is its limit: 0 for an exact prediction,
    else 1.
    """

    is_differentiable = False
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the error of faces with guesses."""
        difference = preds.mean - low
        scaled = difference / high.where(high > 0, 1.0)
        error = torch.where(high > 0, -torch.expm1(-scaled.square() / 2), (difference != 0).double())
        return error, ~(low + high).isnan()


class VotesCRPS(MaskedMean):
    """Mean distance of the predicted distribution F from that of the guesses, G, in years; 0 if they agree.

    ``integral of (F(x) - G(x))^2 dx`` with G the normal distribution of the guesses: the expected CRPS of a
    guess less that of G itself, ``E crps(F, X) - std / sqrt(pi)`` (Gneiting and Raftery, JASA 102, 2007,
    section 4.2). The expectation is computed by Gauss-Hermite quadrature. For a standard deviation of 0 it is
    the CRPS of the mean.
    """

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the distance of faces with guesses."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        total = torch.zeros_like(low)
        for node, weight in zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True):
            total = total + weight * preds.crps(low + node * high)
        return (total - high / math.sqrt(math.pi)).clamp(min=0), ~(low + high).isnan()


class VotesCoverage(IntervalCoverage):
    """Fraction of the guesses within the central prediction interval of ``level``; best at ``level``.

    The mean over faces of the probability of the interval under the normal distribution of the guesses. It is
    above the level where predictions are less certain than people, and below where they are biased or too
    certain.

    Arguments and errors as for :class:`~mtmsa_lightning.metrics.IntervalCoverage`.
    """

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return the fraction of faces with guesses."""
        first, last = preds.interval(self.level)
        std = high.where(high > 0, 1.0)
        within = torch.special.ndtr((last - low) / std) - torch.special.ndtr((first - low) / std)
        equal = ((first <= low) & (low <= last)).double()
        return torch.where(high > 0, within, equal), ~(low + high).isnan()
