"""Conformal prediction intervals, by subject."""

import math

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions import AgeDistribution


def conformal_scores(age: AgeDistribution, low: Tensor, high: Tensor) -> Tensor:
    """Return the half-width, in standard deviations, of the interval that just covers each label.

    ``|age - mean| / std`` for exact ages. A group must lie inside the interval as a whole:
    ``max(|low - mean|, |high - mean|) / std``. Shape ``(N,)``, NaN where the label is missing.
    """
    return torch.maximum((low - age.mean).abs(), (high - age.mean).abs()) / age.std


def conformal_quantile(scores: Tensor, units: Tensor, level: float) -> float:
    """Return the score that a new subject's face does not exceed with probability ``level`` or more.

    Subjects are exchangeable, faces of one subject are not. Each of the K subjects therefore has the weight
    1 / (K + 1), divided evenly among its faces, and a new subject has the same weight at infinity. The
    quantile is the smallest score up to which the weights sum to ``level`` (hierarchical conformal
    prediction: Lee, Barber, Willett, "Distribution-free inference with hierarchical data", 2023). With one
    face per subject it is the ``ceil((K + 1) level)``-th smallest score.

    Args:
        scores: Scores of N faces, ``(N,)``.
        units: Subject of each face as a number, ``(N,)``.
        level: Probability, between 0 and 1.

    Returns:
        The quantile; infinite if K is too small for the level, below ``level / (1 - level)``.
    """
    subjects, subject, faces = torch.unique(units, return_inverse=True, return_counts=True)
    order = scores.argsort()
    reached = (1 / faces.double())[subject][order].cumsum(0)
    enough = reached >= level * (len(subjects) + 1) - 1e-9  # sums of fractions are not exact
    return float(scores[order][enough][0]) if enough.any() else math.inf


def coverage_deviation(level: float, fitted: int, tested: int) -> float:
    """Return the standard deviation of measured coverage by subject around its target ``level``.

    ``sqrt(p (1 - p) (1 / fitted + 1 / tested))`` for the numbers of subjects of both parts. It is exact for
    one face per subject, and an upper bound for several: the variance of a number in [0, 1] with mean p is
    at most p (1 - p).
    """
    return math.sqrt(level * (1 - level) * (1 / fitted + 1 / tested))
