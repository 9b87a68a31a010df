"""Fitting the thresholds of decisions at legal ages on calibration faces."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from mtmsa_lightning.calibration.measures import LabelledPredictions
from mtmsa_lightning.calibration.policy import DECISIONS, AgePolicy
from mtmsa_lightning.calibration.risk_control import loosest_threshold, upper_bound

WIDEST_BUFFER = 40
"""Years from a legal age to the strictest estimate that is tried."""

_PROBABILITIES = [*range(5000, 9900, 100), *range(9900, 9990, 10), *range(9990, 10000)]


def thresholds(policy: AgePolicy) -> list[float]:
    """Return the thresholds of a yes that are tried, from the strictest; they depend on no face.

    Tenths of a year from the legal age on, or probabilities from 0.5 to 0.9999. Those of a no mirror them.
    """
    if policy.by == "probability":
        return [share / 10_000 for share in reversed(_PROBABILITIES)]
    return [policy.legal_age + tenths / 10 for tenths in range(10 * WIDEST_BUFFER, -1, -1)]


def fit_policy(policy: AgePolicy, faces: LabelledPredictions) -> AgePolicy:
    """Return a policy with the thresholds that keep its error rates, see :class:`.AgePolicy`.

    ``yes_from`` is the smallest threshold at which the minors near the legal age keep ``max_fpr``.
    ``no_below`` mirrors it: the largest one for the adults near it. It is None if no tried threshold keeps
    the rate. The guarantee is exact for estimates. A probability also depends on the scale of sigma, one
    number that was fitted on the same faces.

    Args:
        policy: The policy to fit.
        faces: Calibrated predictions of the calibration faces.
    """
    assert faces.age is not None
    score, units = policy.score(faces.age).numpy(), faces.units.numpy()
    mirror = 1.0 if policy.by == "probability" else 2.0 * policy.legal_age  # about 0.5, or the legal age
    tried = thresholds(policy)

    def fitted(ages: tuple[int, int], scores: Any) -> float | None:
        there = within(faces, *ages).numpy()
        return loosest_threshold(
            scores[there], units[there], tried, policy.max_fpr, policy.confidence
        )  # fmt: skip

    yes, no = fitted(policy.minor_ages, score), fitted(policy.adult_ages, mirror - score)
    return replace(policy, yes_from=yes, no_below=None if no is None else round(mirror - no, 4))


def within(faces: LabelledPredictions, first: int, last: float) -> Tensor:
    """Return which labels lie within some completed years, both included, bool ``(N,)``."""
    return (faces.low >= first) & (faces.high <= last)


def policy_rates(policy: AgePolicy, faces: LabelledPredictions) -> dict[str, Any]:
    """Return how the decisions of some faces turn out, as plain values.

    Returns:
        By group (``minors`` and ``adults`` near the legal age, ``all_adults``): its number of ``faces`` and
        ``subjects``, the share of ``yes`` and ``no`` (the mean over subjects of the share of their faces),
        and the bound ``upper`` of the error, None for ``all_adults``.
    """
    assert faces.age is not None
    decided = policy.decide(faces.age).numpy()
    groups = {
        "minors": policy.minor_ages,
        "adults": policy.adult_ages,
        "all_adults": (policy.legal_age, np.inf),
    }
    errors = {"minors": "yes", "adults": "no"}
    found = {}
    for name, ages in groups.items():
        there = within(faces, *ages).numpy()
        _, unit, sizes = np.unique(faces.units.numpy()[there], return_inverse=True, return_counts=True)
        weight = 1 / sizes[unit] / max(len(sizes), 1)
        shares = {key: float(weight[decided[there] == DECISIONS.index(key)].sum()) for key in ("yes", "no")}
        row: dict[str, Any] = {"faces": int(there.sum()), "subjects": len(sizes)}
        row |= {key: share if len(sizes) else None for key, share in shares.items()}
        error = errors.get(name)
        binary = bool((sizes == 1).all())
        bound = error and upper_bound(min(1.0, shares[error]), len(sizes), policy.confidence, binary)
        found[name] = row | {"upper": bound}
    return found
