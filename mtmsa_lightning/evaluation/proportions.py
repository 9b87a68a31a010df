"""Confidence intervals of fractions of faces, for independent faces and for several faces per subject."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtmsa_lightning.evaluation.resampling import Floats, cluster_numbers, divide, sums_by_number
from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL


def wilson(
    successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = CONFIDENCE_LEVEL
) -> tuple[Floats, Floats]:
    """Return both ends of Wilson's score interval of a binomial fraction; NaN without trials.

    It contains the fraction, has a width above 0 at fractions of 0 and 1, and does not leave [0, 1] (Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22, 1927). Both arguments may
    be arrays, and effective numbers that are not whole.
    """
    n = np.asarray(trials, np.float64)
    x = np.asarray(successes, np.float64)
    z = NormalDist().inv_cdf((1 + level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = x / n
        centre = (x + z**2 / 2) / (n + z**2)
        half = z * np.sqrt(n * p * (1 - p) + z**2 / 4) / (n + z**2)
    low, high = centre - half, centre + half
    low, high = np.where(x == 0, 0.0, low), np.where(x == n, 1.0, high)  # without rounding
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


class Fractions(NamedTuple):
    """Fractions of K columns, ``(K,)`` each; NaN without a counted face.

    Attributes:
        value: The fraction.
        low: Lower end of its interval.
        high: Upper end.
        error: Its standard error with two successes and two failures more (at 95 %), which is not 0 for
            fractions of 0 and 1 (Agresti and Coull, "Approximate is better than 'exact'", The American
            Statistician 52, 1998).
    """

    value: Floats
    low: Floats
    high: Floats
    error: Floats


def fractions(
    scores: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = CONFIDENCE_LEVEL
) -> Fractions:
    """Return fractions of scores 0 or 1, ``(N, K)``, NaN not counted, with intervals by cluster.

    Wilson's interval with an effective number of faces (Korn and Graubard, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data", Survey Methodology
    24, 1998): the number of faces divided by the design effect, the ratio of the variance between clusters to
    that of independent faces, at least 1. For fractions of 0 and 1, which have no such ratio, it is the
    number of clusters. Arguments as for :func:`.resampling.bootstrap_means`.
    """
    values = np.asarray(scores, np.float64)
    known = ~np.isnan(values)
    cluster = cluster_numbers(clusters, len(values))
    right = sums_by_number(np.where(known, values, 0.0), cluster)
    counts = sums_by_number(known, cluster)
    return fractions_of_sums(right, counts, level)


def fractions_of_sums(right: Floats, counts: Floats, level: float = CONFIDENCE_LEVEL) -> Fractions:
    """Return :func:`fractions` from the sum and the number of the scores of each cluster, ``(C, K)``.

    Scores between 0 and 1 are allowed; their interval is not narrower than that of as many 0 and 1.
    """
    faces = counts.sum(0)
    share = divide(right.sum(0), faces)
    several = (counts > 0).sum(0).astype(np.float64)
    between = ((right - share * counts) ** 2).sum(0) * divide(several, several - 1)
    effect = np.fmax(1.0, divide(between * (faces - 1), faces**2 * share * (1 - share)))
    effective = np.where((share > 0) & (share < 1), faces / effect, several)
    low, high = wilson(share * effective, effective, level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    added = divide(share * effective + z**2 / 2, effective + z**2)
    return Fractions(share, low, high, np.sqrt(added * (1 - added) / (effective + z**2)))
