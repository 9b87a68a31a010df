"""Intervals and p-values of several differences at once, from bootstrap samples.

The largest of the standardised differences of every sample gives one factor for all intervals, so that all
of them hold together with the confidence level, and p-values that are corrected for the number of
differences. It uses their correlation and is narrower than Bonferroni's correction (single-step maxT of
Westfall and Young, "Resampling-Based Multiple Testing", 1993; Hothorn, Bretz and Westfall, "Simultaneous
inference in general parametric models", Biometrical Journal 50, 2008).
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from mtmsa_lightning.evaluation.resampling import Floats
from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL


class Differences(NamedTuple):
    """Ends of simultaneous intervals and corrected p-values of K differences, ``(K,)`` each."""

    low: Floats
    high: Floats
    p: Floats


def simultaneous(
    values: Floats, drawn: Floats, least_error: npt.ArrayLike = 0.0, level: float = CONFIDENCE_LEVEL
) -> Differences:
    """Return simultaneous intervals of K differences, and p-values of each being zero.

    Args:
        values: The differences, ``(K,)``.
        drawn: Their values in B bootstrap samples, ``(B, K)``; NaN where a sample has none.
        least_error: Lower bounds of the standard errors, ``(K,)``; the bootstrap has an error of 0 where all
            faces have the same score.
        level: The confidence level.
    """
    moved = drawn - values
    error = np.fmax(_deviation(moved), least_error)
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = _row_maximum(np.abs(moved) / error)
        observed = np.abs(values) / error
    half = factor(largest, level) * error
    further = (largest[:, None] >= observed).sum(0)
    p = np.fmax((1 + further) / (1 + len(drawn)), 2 * ndtr(-observed))
    p = np.where(np.isnan(observed), np.nan, p)
    return Differences(values - half, values + half, p)


class Family(NamedTuple):
    """Values that are compared with each other: ``(K,)``, in samples ``(B, K)``, least errors ``(K,)``."""

    estimates: Floats
    drawn: Floats
    least_error: Floats


class LargestDifference(NamedTuple):
    """The largest difference of two values of a family, with an interval.

    The interval is that of the largest true difference: corrected for all pairs of all families, hence for
    the selection of the largest one on the same faces. It need not contain the difference that was observed,
    since the largest of many differences is larger than the true one on average.
    """

    family: int
    highest: int
    lowest: int
    value: float
    low: float
    high: float


def largest_difference(families: Sequence[Family], level: float = CONFIDENCE_LEVEL) -> LargestDifference:
    """Return the largest difference within a family, with the interval of the largest true difference.

    Its ends are the largest lower and the largest upper end of the simultaneous intervals of all pairs, at
    least 0. Arguments as for :func:`simultaneous`; each family has at least two values.
    """
    largest = np.zeros(len(families[0].drawn))
    found: list[tuple[Floats, Floats]] = []
    for family in families:
        for difference, moved, least in _pairs(family):
            error = np.fmax(_deviation(moved), least)
            with np.errstate(divide="ignore", invalid="ignore"):
                largest = np.fmax(largest, _row_maximum(np.abs(moved) / error))
            found.append((difference, error))
    half = factor(largest, level)
    low = max(0.0, *(float(np.max(difference - half * error)) for difference, error in found))
    high = max(float(np.max(difference + half * error)) for difference, error in found)
    widest = int(np.argmax([np.ptp(family.estimates) for family in families]))
    values = families[widest].estimates
    highest, lowest = int(np.argmax(values)), int(np.argmin(values))
    return LargestDifference(widest, highest, lowest, float(values[highest] - values[lowest]), low, high)


def factor(largest: Floats, level: float) -> float:
    """Return by how many standard errors intervals extend to both sides.

    It is the quantile of the largest standardised difference of the samples (the order statistic that agrees
    with p-values that are never zero), and not below that of a single normal difference.
    """
    known = np.sort(largest[np.isfinite(largest)])
    rank = min(math.ceil(level * (len(known) + 1)), len(known))
    least = NormalDist().inv_cdf((1 + level) / 2)
    return max(least, float(known[rank - 1])) if rank else least


def _pairs(family: Family) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yield, for each value and all smaller ones, differences, their deviations in samples, least errors."""
    values, least = family.estimates, family.least_error
    order = np.argsort(values)
    moved = family.drawn - values
    for position in range(1, len(order)):
        this, smaller = order[position], order[:position]
        deviations = moved[:, [this]] - moved[:, smaller]
        yield values[this] - values[smaller], deviations, np.hypot(least[this], least[smaller])


def _deviation(moved: Floats) -> Floats:
    """Return standard deviations over samples, ``(K,)``, without NaN."""
    known = ~np.isnan(moved)
    count = np.maximum(known.sum(0), 1)
    filled = np.where(known, moved, 0.0)
    variance = (filled**2).sum(0) / count - (filled.sum(0) / count) ** 2
    deviation: Floats = np.sqrt(np.maximum(variance, 0.0))
    return deviation


def _row_maximum(values: Floats) -> Floats:
    """Return the maximum of each row without NaN, 0 without any number."""
    largest: Floats = np.nan_to_num(values, nan=0.0).max(axis=1, initial=0.0)
    return largest
