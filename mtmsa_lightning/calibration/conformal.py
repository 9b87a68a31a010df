"""Conformal intervals by subject."""

import math

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions import AgeDistribution

INTERVAL_LEVEL = 0.9
"""Level of the interval whose width decides whether a face is unsure."""


def conformal_scores(age: AgeDistribution, low: Tensor, high: Tensor) -> Tensor:
    """Return the number of standard deviations by which the interval must reach out to cover each label.

    ``|age - mean| / std``, and for a group, which must be contained whole, ``max(|low - mean|, |high - mean|)
    / std``; ``(N,)``, NaN where the label is missing.
    """
    return torch.maximum((low - age.mean).abs(), (high - age.mean).abs()) / age.std


def conformal_quantile(scores: Tensor, units: Tensor, level: float) -> float:
    """Return the score that a new subject's face does not exceed with probability ``level`` or more.

    Faces of one subject are not exchangeable with a new subject's; subjects are. So each of the K subjects
    weighs 1 / (K + 1), shared among its faces, the new one weighs as much at infinity, and the quantile is
    the least score up to which the weights add up to ``level`` (hierarchical conformal prediction: Lee,
    Barber, Willett, "Distribution-free inference with hierarchical data", 2023). It holds for a face drawn
    from a new subject's, as does one face drawn of each subject (subsampling once: Dunn, Wasserman, Ramdas,
    "Distribution-Free Prediction Sets for Two-Layer Hierarchical Models", JASA 118, 2023), but has no draw in
    it and uses every face. With one face each it is the ``ceil((K + 1) level)``-th smallest score.

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
    enough = reached >= level * (len(subjects) + 1) - 1e-9  # sums of shares are not exact
    return float(scores[order][enough][0]) if enough.any() else math.inf


def coverage_deviation(level: float, fitted: int, tested: int) -> float:
    """Return the standard deviation of measured coverage by subject about its target.

    ``sqrt(p (1 - p) (1 / fitted + 1 / tested))``, the chance of both parts. It holds for one face a subject.
    With several, of which a share may be covered, it is an upper bound: the variance of a number between 0
    and 1 with mean p is at most p (1 - p).

    Args:
        level: Target p of the coverage.
        fitted: Number of subjects that the calibration was fitted on.
        tested: Number of subjects that are tested.
    """
    return math.sqrt(level * (1 - level) * (1 / fitted + 1 / tested))
