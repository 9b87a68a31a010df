"""Numerically stable functions for losses and distributions, in float64."""

import math

import torch
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_FAR = 1e150  # stands for infinity: its square is still finite in float64
_NARROW = 1e-5  # width * distance below which a difference of two tails loses too many digits


def soft_bound(x: Tensor, low: float, high: float) -> Tensor:
    """Squash ``x`` smoothly into ``(low, high)`` with slope 1 at 0.

    ``x / (1 + x / high)`` above 0 and ``x / (1 + x / low)`` below. Unlike a clamp it has a gradient
    everywhere. The gradient ``(1 + |x / bound|)^-2`` decays polynomially, not exponentially as that of tanh,
    so that outputs far outside the range still train.

    Raises:
        ValueError: If not ``low < 0 < high``.
    """
    if not low < 0 < high:
        raise ValueError(f"soft_bound needs low < 0 < high, got {low} and {high}")
    excess: Tensor = torch.where(x < 0, x / low, x / high)
    return x / (1 + excess)


def log_normal_interval(low_z: Tensor, high_z: Tensor) -> Tensor:
    """Return ``log[Phi(high_z) - Phi(low_z)]`` in float64, accurate in the far tails, gradient included.

    An interval on one side of 0 is mirrored to the positive side and computed with the scaled tail ``erfcx``,
    which neither underflows nor cancels. An interval around 0 is a sum of two error functions. A very narrow
    interval is its width times the density at its middle, to second order. (``log_ndtr`` would lose digits in
    proportion to z squared.)

    Args:
        low_z: Lower bounds in standard deviations from the mean, -inf allowed.
        high_z: Upper bounds, above ``low_z``, inf allowed; both broadcast.
    """
    low, high = low_z.double().clamp(-_FAR, _FAR), high_z.double().clamp(-_FAR, _FAR)
    mirrored = low + high < 0
    near, far = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    around = near <= 0
    narrow = ~around & ((far - near) * far < _NARROW)
    # Branches that are not taken get a finite interval: where() would multiply an infinite gradient by 0.
    tail = ~around & ~narrow
    return torch.where(
        around,
        _log_mass_around_mean(torch.where(around, near, -1.0), torch.where(around, far, 1.0)),
        torch.where(
            narrow,
            _log_mass_narrow(torch.where(narrow, near, 1.0), torch.where(narrow, far, 2.0)),
            _log_mass_in_tail(torch.where(tail, near, 1.0), torch.where(tail, far, 2.0)),
        ),
    )


def _log_mass_around_mean(low: Tensor, high: Tensor) -> Tensor:
    """Return the logarithm of the normal mass for ``low <= 0 <= high``: nothing cancels."""
    return torch.log(0.5 * (torch.erf(high / math.sqrt(2)) - torch.erf(low / math.sqrt(2))))


def _log_mass_in_tail(low: Tensor, high: Tensor) -> Tensor:
    """Return the logarithm of the normal mass for ``0 < low < high``, log(Q(low) - Q(high))."""
    low_tail: Tensor = torch.special.erfcx(low / math.sqrt(2)).log()
    high_tail: Tensor = torch.special.erfcx(high / math.sqrt(2)).log()
    log_ratio = (high - low) * (high + low) / 2 + low_tail - high_tail
    return low_tail - low.square() / 2 - math.log(2) + torch.log(-torch.expm1(-log_ratio))


def _log_mass_narrow(low: Tensor, high: Tensor) -> Tensor:
    """Return the logarithm of the normal mass of a narrow interval, to second order."""
    middle, width = (low + high) / 2, high - low
    curvature = (middle.square() - 1) * width.square() / 24
    return curvature - middle.square() / 2 - _LOG_SQRT_2PI + width.log()
