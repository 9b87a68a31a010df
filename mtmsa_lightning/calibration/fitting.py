"""Fitting a calibration on held-out faces."""

import math
import sys
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.calibration import FACTOR_RANGE, LEVELS, Calibration
from mtmsa_lightning.calibration.conformal import conformal_quantile, conformal_scores
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.models.distributions import AgeDistribution, GaussianAge

_NOT_FINITE = (
    f"no {{}} between {FACTOR_RANGE[0]:g} and {FACTOR_RANGE[1]:g} has a finite loss on these faces: "
    "the outputs for some of them are not finite, or give their label no probability at all"
)


_GRID = 61


def fit_calibration(
    age: AgeDistribution | None,
    low: Tensor,
    high: Tensor,
    classes: Mapping[str, tuple[Tensor, Tensor]],
    units: Tensor,
) -> Calibration:
    """Fit the calibration of every head with labels, from uncalibrated predictions of N faces.

    Args:
        age: Distributions; None without an age head.
        low: Lower ends of the age labels in completed years, ``(N,)``, NaN where missing.
        high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        classes: Task to logits ``(N, classes)`` and class indices ``(N,)``, -1 where missing.
        units: Subject of each face as a number, ``(N,)``.

    Returns:
        The calibration, without thresholds, origin and metrics.

    Raises:
        DataError: If a prediction for a labelled face is not finite, or no factor has a finite loss.
    """
    known = {task: pair for task, pair in classes.items() if (pair[1] >= 0).any()}
    temperatures = {task: fit_temperature(*pair) for task, pair in known.items()}
    labelled = ~(low + high).isnan()
    if age is None or not labelled.any():
        return Calibration(temperatures=temperatures)
    scores = conformal_scores(age, low, high)[labelled]
    if bad := int((~scores.isfinite()).sum()):
        raise DataError(
            f"the predicted age of {bad} of {pluralize(len(scores), 'labelled face')} is not finite: the "
            "weights are damaged or have diverged, and cannot be calibrated"
        )
    scale = fit_sigma_scale(age, low, high)
    quantiles = {level: conformal_quantile(scores, units[labelled], level) for level in LEVELS}
    return Calibration(scale, temperatures, quantiles)


def fit_sigma_scale(age: AgeDistribution, low: Tensor, high: Tensor) -> float:
    """Return the factor of sigma of maximum likelihood; arguments as in :func:`fit_calibration`.

    For normal distributions and exact ages ``scale^2 = mean((age - mean)^2 / sigma^2)`` (Laves et al.,
    "Well-Calibrated Regression Uncertainty in Medical Imaging with Deep Learning", MIDL 2020). Otherwise the
    likelihood of ages (density) and groups (mass from half a year below to half a year above) is maximised
    within ``FACTOR_RANGE``. A label outside the years of a categorical head counts as the nearest year, as in
    the head's loss.

    Raises:
        DataError: If the likelihood is finite for no scale.
    """
    exact, group = low == high, low < high
    if isinstance(age, GaussianAge) and not group.any():
        z = ((low - age.mean) / age.std)[exact]
        scale = float(z.square().mean().sqrt())
        if not math.isfinite(scale):
            raise DataError(_NOT_FINITE.format("scale of sigma"))
        return min(max(scale, FACTOR_RANGE[0]), FACTOR_RANGE[1])
    low, high = age.nearest(low), age.nearest(high)
    # Rows of the other kind get labels with a finite likelihood.
    point = torch.where(exact, low, age.mean)
    ends = torch.where(group, low, age.mean) - 0.5, torch.where(group, high, age.mean) + 0.5

    def loss(scale: float) -> float:
        scaled = age.scaled(scale)
        log_likelihood = torch.where(
            group, scaled.log_interval_prob(*ends), torch.where(exact, scaled.log_prob(point), 0.0)
        )
        return -float(log_likelihood.sum())

    return minimise_factor(loss, "scale of sigma")


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """Return the temperature of maximum likelihood within ``FACTOR_RANGE``.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. Logits have shape
    ``(N, classes)``, class indices ``(N,)``, -1 where missing; at least one is known.

    Raises:
        DataError: If the cross-entropy is finite for no temperature.
    """
    logits, target = logits[target >= 0].double(), target[target >= 0]
    return minimise_factor(
        lambda temperature: float(F.cross_entropy(logits / temperature, target)), "temperature"
    )


def minimise_factor(loss: Callable[[float], float], name: str) -> float:
    """Return the factor within ``FACTOR_RANGE`` that minimises a loss, to about eight digits.

    A bounded search starts from the best point of a logarithmic grid; ``name`` is for the error message.

    Raises:
        DataError: If no factor of the grid has a finite loss.
    """

    def at(position: float) -> float:
        value = loss(math.exp(position))
        return value if math.isfinite(value) else sys.float_info.max

    first, last = map(math.log, FACTOR_RANGE)
    grid = np.linspace(first, last, _GRID)
    losses = [at(position) for position in grid]
    best = int(np.argmin(losses))
    if losses[best] == sys.float_info.max:
        raise DataError(_NOT_FINITE.format(name))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = minimize_scalar(at, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return math.exp(found.x if found.fun < losses[best] else grid[best])  # the search excludes the bounds
