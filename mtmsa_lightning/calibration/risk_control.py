"""Upper bounds of an error rate, and the loosest threshold that keeps one: learn then test.

A threshold is chosen on calibration faces so that the error rate of new faces keeps a bound. Thresholds are
tested in a fixed order from the strictest to the loosest, and the search ends at the first one that fails.
Each test has the full level, as the order does not depend on the faces: "fixed sequence testing" in
Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve
Risk Control", 2021 (arXiv 2110.01052).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import bdtr, betaincinv

Floats = npt.NDArray[np.float64]


def upper_bound(risk: float, units: int, confidence: float | None, binary: bool = True) -> float:
    """Return an upper bound of an expected loss in [0, 1], from its mean over independent units.

    - Losses of 0 or 1: Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934:
      the exact one-sided bound, the quantile of Beta(k + 1, n - k) for k of n errors.
    - Fractions: the rate whose p-value of :func:`hoeffding_bentkus` is ``1 - confidence``.
    - ``confidence`` None: ``(n risk + 1) / (n + 1)``; the loosest threshold at which it keeps a rate keeps
      the expected loss of the next unit, on average over calibration sets (Angelopoulos et al., "Conformal
      Risk Control", ICLR 2024).

    Args:
        risk: Mean loss of the units.
        units: Their number n.
        confidence: Probability with which the bound holds; None for a bound on average.
        binary: Whether every loss is 0 or 1.
    """
    if confidence is None:
        return (units * risk + 1) / (units + 1)
    if units == 0 or risk >= 1:
        return 1.0
    if binary:
        errors = round(units * risk)
        return float(betaincinv(errors + 1, units - errors, confidence))

    def excess(rate: float) -> float:
        return hoeffding_bentkus(risk, units, rate) - (1 - confidence)

    # The p-value falls with the rate, from at least 1 at the risk itself to 0 at 1.
    return float(brentq(excess, risk, 1 - 1e-12)) if excess(1 - 1e-12) < 0 else 1.0


def hoeffding_bentkus(risk: float, units: int, rate: float) -> float:
    """Return the p-value of "the expected loss is above ``rate``" for a mean loss of units in [0, 1].

    ``min(exp(-n h(min(risk, rate), rate)), e P(Bin(n, rate) <= ceil(n risk)))``, h the relative entropy of
    two Bernoulli variables (Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", JACM 68,
    2021).
    """
    if rate <= 0:
        return 1.0
    low = min(risk, rate)
    entropy = (low * math.log(low / rate) if low else 0.0) + (1 - low) * math.log((1 - low) / (1 - rate))
    tail = math.e * float(bdtr(math.ceil(units * risk - 1e-9), units, rate))
    return min(1.0, math.exp(-units * entropy), tail)


def fewest_units(max_rate: float, confidence: float | None) -> int:
    """Return the smallest number of units without an error whose :func:`upper_bound` keeps a rate.

    ``log(1 - confidence) / log(1 - max_rate)``, for 95 % about ``3 / max_rate`` (the rule of three: Hanley
    and Lippman-Hand, JAMA 249, 1983); on average ``1 / max_rate - 1``.
    """
    least = 1 / max_rate - 1 if confidence is None else math.log(1 - confidence) / math.log(1 - max_rate)
    return math.ceil(least - 1e-9)


def smallest_rate(units: int, confidence: float | None) -> float:
    """Return the smallest rate that ``units`` without an error can show; 1 without units."""
    return upper_bound(0.0, units, confidence)


def keeps_rate(risk: float, units: int, max_rate: float, confidence: float | None, binary: bool) -> bool:
    """Return whether the :func:`upper_bound` is at most ``max_rate``, for fractions by the p-value alone."""
    if binary or confidence is None or units == 0:
        return upper_bound(risk, units, confidence, binary) <= max_rate
    return hoeffding_bentkus(risk, units, max_rate) <= 1 - confidence


def loosest_threshold(
    scores: npt.ArrayLike,
    units: npt.ArrayLike,
    thresholds: Sequence[float],
    max_rate: float,
    confidence: float | None,
) -> float | None:
    """Return the loosest threshold of a sequence at which the error rate of a new unit's face keeps a bound.

    A face errs if its score is at least the threshold. The loss of a unit (a subject) is the fraction of its
    faces that err: units are independent, faces of one are not.

    Args:
        scores: Scores of N faces.
        units: Unit of each face as a number.
        thresholds: Thresholds in decreasing order, chosen without these faces.
        max_rate: Largest accepted rate.
        confidence: As for :func:`upper_bound`.

    Returns:
        The last threshold before the first that fails; None if the first one fails.
    """
    values = np.asarray(scores, np.float64)
    _, unit, faces = np.unique(np.asarray(units), return_inverse=True, return_counts=True)
    weight = 1 / faces[unit] / max(len(faces), 1)
    binary = bool((faces == 1).all())
    order = np.argsort(-values)
    total = np.concatenate([[0.0], weight[order].cumsum()])
    erring = np.searchsorted(-values[order], -np.asarray(thresholds, np.float64), side="right")
    risks = np.minimum(total[erring], 1.0)

    def fails(number: int) -> bool:
        return not keeps_rate(float(risks[number]), len(faces), max_rate, confidence, binary)

    # Risks and bounds grow along the sequence, so the first failure is found by bisection.
    first = bisect_left(range(len(thresholds)), True, key=fails)
    return thresholds[first - 1] if first else None
