"""Categorical distributions over completed years of age."""

import math
from typing import Self

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from mtmsa_lightning.models.distributions.base import AgeDistribution, as_ages, check_probability, check_scale

_STEEPEST = 1e4
"""Largest tilt in nats per year."""

_State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""State of the search for a tilt: iterations, whether all converged, and tilt and bracket of each face."""


class CategoricalAge(AgeDistribution):
    """Probabilities of completed years, in float64.

    The probability of year y is spread evenly over (y - 0.5, y + 0.5]. The distribution thus has a density,
    and its cumulative distribution is piecewise linear. It has no mass outside its years.

    Args:
        log_pmf: Logarithms of the probabilities, ``(N, K)``; those of a face sum to 1.
        min_age: The first of the K years.
    """

    def __init__(self, log_pmf: Tensor, min_age: int = 0) -> None:
        self.log_pmf = log_pmf.double()
        self.min_age = min_age
        last = min_age + log_pmf.shape[-1]
        self.years = torch.arange(min_age, last, dtype=torch.float64, device=log_pmf.device)

    @property
    def pmf(self) -> Tensor:
        """Probability of each year, ``(N, K)``."""
        return self.log_pmf.exp()

    @property
    def mean(self) -> Tensor:
        """Mean in years, ``(N,)``."""
        return self.pmf @ self.years

    @property
    def std(self) -> Tensor:
        """Standard deviation in years, ``(N,)``; a year's uniform density adds 1/12 to the variance."""
        return (self.variance + 1 / 12).sqrt()

    @property
    def variance(self) -> Tensor:
        """Variance of the probabilities at whole years, ``(N,)``, without the 1/12 of a year's density."""
        return (self.pmf * (self.years - self.mean[..., None]).square()).sum(-1)

    def interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return P(low < age <= high)."""
        return (self.pmf * self._fractions(low, high)).sum(-1)

    def log_interval_prob(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return log P(low < age <= high), finite if the interval overlaps the years."""
        fractions = self._fractions(low, high)
        overlaps = fractions > 0
        terms = self.log_pmf + torch.where(overlaps, fractions, 1.0).log()
        return torch.where(overlaps, terms, -math.inf).logsumexp(-1)

    def log_prob(self, age: Tensor | float) -> Tensor:
        """Return the logarithm of the density at ``age``, per year; -inf outside the years."""
        age = as_ages(age, self.log_pmf)[..., None]
        here = (age > self.years - 0.5) & (age <= self.years + 0.5)
        return torch.where(here, self.log_pmf, -math.inf).amax(-1)

    def nearest(self, age: Tensor) -> Tensor:
        """Return ages clamped to the years, NaN where missing."""
        return as_ages(age, self.log_pmf).clamp(self.years[0], self.years[-1])

    def quantile(self, p: float) -> Tensor:
        """Return the quantile of probability ``p`` in years, ``(N,)``."""
        check_probability(p)
        pmf, cumulative = self.pmf, self.pmf.cumsum(-1)
        target = p * cumulative[..., -1:]  # 1 except for rounding
        year = (cumulative < target).sum(-1, keepdim=True)
        mass = pmf.gather(-1, year)
        excess = (cumulative.gather(-1, year) - target) / mass
        return (year + 0.5 - excess.clamp(0, 1)).squeeze(-1) + self.min_age

    def crps(self, age: Tensor | float) -> Tensor:
        """Return the continuous ranked probability score in years, exactly.

        Within a year the cumulative distribution F is linear from a to b, and the integral of F^2 is ``(a^2 +
        a b + b^2) / 3``. The year that contains ``age`` is split there.
        """
        age = as_ages(age, self.log_pmf)[..., None]
        below = (age - (self.years - 0.5)).clamp(0, 1)  # fraction of each year below the age
        last = self.pmf.cumsum(-1)
        first = last - self.pmf
        cut = first + below * self.pmf
        score = below * _mean_square(first, cut) + (1 - below) * _mean_square(1 - cut, 1 - last)
        beyond = (self.years[0] - 0.5 - age).clamp(min=0) + (age - self.years[-1] - 0.5).clamp(min=0)
        return score.sum(-1) + beyond.squeeze(-1)

    def scaled(self, scale: float) -> Self:
        """Return tempered and tilted distributions, proportional to ``p_y^(1 / scale^2) exp(t y)``.

        The power is temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)
        with temperature ``scale^2``. It multiplies the standard deviation of a normal shape by ``scale``, and
        approximately that of other unimodal shapes, within the range of the years. The tilt ``t`` of each
        face keeps its mean, so that calibration does not change the predicted ages.
        """
        check_scale(scale)
        log_pmf = _tilted_to(self.mean, self.log_pmf / scale**2, self.years)
        return type(self)(log_pmf, self.min_age)

    def __getitem__(self, rows: slice) -> Self:
        """Return the distributions of some faces."""
        return type(self)(self.log_pmf[rows], self.min_age)

    def columns(self) -> dict[str, Tensor]:
        """Return ``age_mean`` and ``age_std`` in years, and the probabilities ``age_p_<year>``."""
        pmf = {f"age_p_{self.min_age + i}": column for i, column in enumerate(self.pmf.unbind(-1))}
        return {"age_mean": self.mean, "age_std": self.std} | pmf

    def _fractions(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Return the fraction of each year that lies between the bounds, with the years as last axis."""
        upper = torch.minimum(as_ages(high, self.log_pmf)[..., None], self.years + 0.5)
        lower = torch.maximum(as_ages(low, self.log_pmf)[..., None], self.years - 0.5)
        return (upper - lower).clamp(0, 1)


def _mean_square(start: Tensor, end: Tensor) -> Tensor:
    """Return the mean of the square of a linear function from ``start`` to ``end``."""
    return (start.square() + start * end + end.square()) / 3


def _tilted_to(mean: Tensor, logits: Tensor, years: Tensor) -> Tensor:
    """Return the normalised log-probabilities ``logits + t * years`` with the given mean.

    The mean increases with t and its derivative is the variance. Newton's method, with bisection if a step
    would leave the bracket.
    """
    centred = years - mean[..., None]

    def unfinished(iteration: Tensor, converged: Tensor, *_: Tensor) -> Tensor:
        return (iteration < 60) & ~converged

    def narrow(iteration: Tensor, converged: Tensor, tilt: Tensor, low: Tensor, high: Tensor) -> _State:
        pmf = (logits + tilt[..., None] * centred).softmax(-1)
        excess = (pmf * centred).sum(-1)
        converged = (excess.abs() < 1e-10).all()
        low, high = torch.where(excess < 0, tilt, low), torch.where(excess > 0, tilt, high)
        variance = (pmf * (centred - excess[..., None]).square()).sum(-1)
        step = tilt - excess / variance.clamp(min=1e-12)
        step = torch.where((step > low) & (step < high), step, (low + high) / 2)
        return iteration + 1, converged, torch.where(converged, tilt, step), low, high

    state: _State = (
        torch.tensor(0, device=mean.device), torch.tensor(False, device=mean.device),
        torch.zeros_like(mean), torch.full_like(mean, -_STEEPEST), torch.full_like(mean, _STEEPEST),
    )  # fmt: skip
    if torch.compiler.is_exporting():  # export would unroll a Python loop
        state = while_loop(unfinished, narrow, state)  # type: ignore[no-untyped-call]
    else:
        while unfinished(*state):
            state = narrow(*state)
    return (logits + state[2][..., None] * centred).log_softmax(-1)
