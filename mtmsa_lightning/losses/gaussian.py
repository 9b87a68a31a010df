"""Losses that mask missing labels, return ``(sum, count)``, and are combined by task weights.

A sum and a count, not a mean, let the caller divide by the count over all processes, so that two halves of
a batch on two processes give the gradient of the whole. With nothing labelled the sum is an exact zero that
still hangs on the graph: every parameter gets a gradient, which distributed training needs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_FAR = 1e150  # stands for infinity: its square is still finite in float64
_NARROW = 1e-5  # width * distance below which a difference of two tails has lost too many digits


def soft_bound(x: Tensor, low: float, high: float) -> Tensor:
    """Squash ``x`` smoothly into ``(low, high)`` with slope 1 at 0.

    ``x / (1 + x / high)`` above 0 and ``x / (1 + x / low)`` below. Unlike a clamp it has a gradient
    everywhere, and unlike tanh the gradient ``(1 + |x / bound|)^-2`` decays only polynomially, so that an
    output far outside the range finds back.

    Args:
        x: Values of any shape.
        low: Lower bound, negative.
        high: Upper bound, positive.

    Raises:
        ValueError: If not ``low < 0 < high``.
    """
    if not low < 0 < high:
        raise ValueError(f"soft_bound needs low < 0 < high, got {low} and {high}")
    excess: Tensor = torch.where(x < 0, x / low, x / high)
    return x / (1 + excess)


def log_normal_interval(low_z: Tensor, high_z: Tensor) -> Tensor:
    """Return ``log[Phi(high_z) - Phi(low_z)]`` in float64, with value and gradient right in the far tails.

    An interval on one side of 0 is mirrored to the positive side and written with the scaled tail ``erfcx``,
    which neither underflows nor cancels; an interval around 0 is a sum of two error functions; a very narrow
    one is its density at the middle, to second order. (``log_ndtr`` would lose digits in proportion to z
    squared.)

    Args:
        low_z: Lower bounds in standard deviations from the mean, -inf allowed.
        high_z: Upper bounds, above ``low_z``, inf allowed.

    Returns:
        Natural logarithms, in the shape to which the bounds broadcast.
    """
    low, high = low_z.double().clamp(-_FAR, _FAR), high_z.double().clamp(-_FAR, _FAR)
    mirrored = low + high < 0
    near, far = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    around = near <= 0
    narrow = ~around & ((far - near) * far < _NARROW)
    # A branch that is not taken sees a harmless interval: where() would multiply its infinite gradient by 0.
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
    """Logarithm of the normal mass for ``low <= 0 <= high``: both terms have one sign, nothing cancels."""
    return torch.log(0.5 * (torch.erf(high / math.sqrt(2)) - torch.erf(low / math.sqrt(2))))


def _log_mass_in_tail(low: Tensor, high: Tensor) -> Tensor:
    """Logarithm of the normal mass for ``0 < low < high``: log Q(low) + log(1 - Q(high) / Q(low))."""
    low_tail: Tensor = torch.special.erfcx(low / math.sqrt(2)).log()
    high_tail: Tensor = torch.special.erfcx(high / math.sqrt(2)).log()
    log_ratio = (high - low) * (high + low) / 2 + low_tail - high_tail
    return low_tail - low.square() / 2 - math.log(2) + torch.log(-torch.expm1(-log_ratio))


def _log_mass_narrow(low: Tensor, high: Tensor) -> Tensor:
    """Logarithm of the normal mass of a narrow interval: density at its middle times width, to 2nd order."""
    middle, width = (low + high) / 2, high - low
    curvature = (middle.square() - 1) * width.square() / 24
    return curvature - middle.square() / 2 - _LOG_SQRT_2PI + width.log()


class GaussianKLLoss(nn.Module):
    """Kullback-Leibler divergence from labels of age, exact or intervals, to a Gaussian prediction.

    With ``a = log sigma^2`` and ``d = label - mean``:

    - exact label: KL(Dirac || Gaussian) up to a constant, ``exp(-a) d^2 / 2 + a / 2``; with
      ``form="robust"`` it is ``exp(-a) (|d| - 1/2) + a / 2`` where ``|d| > 1`` (He et al., "Bounding Box
      Regression with Uncertainty", CVPR 2019, equations 9 and 10). Sigma is then no standard deviation.
    - group label: interval-censored likelihood,
      ``-log P(low - half_width <= age <= high + half_width)``. For narrow groups it equals the exact form
      plus ``log(2 pi) / 2 - log(width)``: the gradients agree.

    The exact form can be negative, as a density has no upper bound. Everything is computed in float64.

    Args:
        form: ``exact`` or ``robust``.
        beta: Weigh each term by ``stop_grad(sigma^(2 beta))``, which keeps hard samples from being given up
            (beta-NLL; Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation", ICLR 2022,
            equation 6); 0 is off, 1 gives the mean the gradient of squared error.

    Shape:
        ``mean``, ``log_variance``, ``low``, ``high``: ``(N,)``, all in the same units (the robust form
        expects standardised ones). ``low == high`` is an exact label, NaN a missing one.

    Raises:
        ValueError: If the form is unknown or beta lies outside 0 to 1.
    """

    def __init__(self, form: Literal["exact", "robust"] = "exact", beta: float = 0.0) -> None:
        super().__init__()
        if form not in ("exact", "robust"):
            raise ValueError(f"form must be exact or robust, got {form!r}")
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie between 0 and 1, got {beta}")
        self.form = form
        self.beta = beta

    def forward(
        self, mean: Tensor, log_variance: Tensor, low: Tensor, high: Tensor, half_width: Tensor | float = 0.5
    ) -> tuple[Tensor, Tensor]:
        """Return the float64 sum over labelled rows and their int64 count; see :meth:`per_sample`."""
        count = (~(low + high).isnan()).sum()
        return self.per_sample(mean, log_variance, low, high, half_width).sum(), count

    def per_sample(
        self, mean: Tensor, log_variance: Tensor, low: Tensor, high: Tensor, half_width: Tensor | float = 0.5
    ) -> Tensor:
        """Return the loss of each row in float64, ``(N,)``, zero where the label is missing.

        Args:
            mean: Predicted means.
            log_variance: Predicted ``log sigma^2``, bounded by the caller.
            low: Lower ends of the labels.
            high: Upper ends of the labels.
            half_width: Half a year in the units of the labels, by which a group extends at both ends.

        Raises:
            ValueError: If the shapes differ.
        """
        if not mean.shape == log_variance.shape == low.shape == high.shape:
            shapes = [tuple(t.shape) for t in (mean, log_variance, low, high)]
            raise ValueError(f"mean, log_variance, low and high must have one shape, got {shapes}")
        mean, log_variance = mean.double(), log_variance.double()
        exact, group = low == high, ~(low + high).isnan() & (low != high)
        # Rows of the other kinds get harmless values: where() would multiply their NaN gradients by 0.
        exact_loss = self._exact(torch.where(exact, mean - low, 0.0), torch.where(exact, log_variance, 0.0))
        deviation = torch.where(group, 0.5 * log_variance, 0.0).exp()
        low_z = torch.where(group, low - half_width - mean, -1.0) / deviation
        high_z = torch.where(group, high + half_width - mean, 1.0) / deviation
        loss = torch.where(group, -log_normal_interval(low_z, high_z), exact_loss)
        return (self.beta * log_variance.detach()).exp() * loss

    def _exact(self, difference: Tensor, log_variance: Tensor) -> Tensor:
        distance = 0.5 * difference.square()
        if self.form == "robust":
            distance = torch.where(difference.abs() > 1, difference.abs() - 0.5, distance)
        return (-log_variance).exp() * distance + 0.5 * log_variance


class MaskedCrossEntropy(nn.Module):
    """Cross-entropy that skips missing labels, in float32 or better.

    Args:
        label_smoothing: Share of the label that is spread evenly over all classes, 0 to below 1.
        class_weights: One positive weight per class. The count is then the sum of the weights of the labels:
            ``sum / count`` is torch's weighted mean, and stays so when sums and counts of ranks are added.

    Shape:
        ``logits (N, K)``, ``target (N,)`` of class indices, -1 where missing.

    Raises:
        ValueError: If the smoothing lies outside 0 to 1 or a weight is not positive and finite.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if class_weights is not None and not all(0 < weight < math.inf for weight in class_weights):
            raise ValueError(f"class weights must be positive and finite, got {list(class_weights)}")
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum over labelled rows, and their count (int64) or sum of class weights (float)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labelled = target != -1
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        total = F.cross_entropy(
            logits,
            target,
            weight=weights,
            ignore_index=-1,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        if weights is None:
            return total, labelled.sum()
        return total, (weights[target.clamp(min=0)] * labelled).sum()


class TaskWeighting(nn.Module):
    """Combine the mean losses of the tasks into one.

    Fixed weights give ``sum w L``. With ``learned`` every task but age is weighed by its homoscedastic
    uncertainty, ``w (exp(-s) L + s / 2)`` (Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh
    Losses", CVPR 2018, section 3.2), where ``s`` is learned and softly bounded to (-5, 5): on a perfect fit
    ``s`` would otherwise fall and the weight rise without end. Age keeps its fixed weight: its loss learns a
    sigma of its own and may be negative, so ``exp(-s) L + s / 2`` would have no lower bound.

    Args:
        weights: Fixed weight of each task, not negative; the task named ``age`` is the regression of age.
        learned: Learn the weights of all tasks but age, on top of the fixed ones.

    Raises:
        ValueError: If there is no task, or a weight is negative or not finite.
    """

    def __init__(self, weights: Mapping[str, float], learned: bool = False) -> None:
        super().__init__()
        if not weights or not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(
                f"task weights must be finite and not negative, one or more, got {dict(weights)}"
            )
        self.weights = dict(weights)
        names = [name for name in weights if learned and name != "age"]
        self.raw_log_scales = nn.ParameterDict({name: torch.zeros(()) for name in names})

    def forward(self, losses: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum.

        Args:
            losses: Mean loss of each task, a scalar.
            present: Scalar by task, true when anything of it is labelled (on any rank). A task that is not
                contributes an exact zero, its ``s / 2`` included, and keeps its graph alive.

        Raises:
            ValueError: If the tasks are not those of the constructor.
        """
        if not losses.keys() == present.keys() == self.weights.keys():
            raise ValueError(
                f"expected losses of {sorted(self.weights)}, got {sorted(losses)}, present: {sorted(present)}"
            )
        terms = [
            torch.where(present[name].bool(), self._term(name, losses[name]), 0.0) for name in self.weights
        ]
        return sum(terms[1:], start=terms[0])

    def current(self) -> dict[str, Tensor]:
        """Return the factor by which each loss is multiplied at present, detached, for logging."""
        factors = {name: torch.tensor(weight) for name, weight in self.weights.items()}
        for name in self.raw_log_scales:
            factors[name] = (self.weights[name] * (-self._log_scale(name)).exp()).detach()
        return factors

    def _term(self, name: str, loss: Tensor) -> Tensor:
        if name not in self.raw_log_scales:
            return self.weights[name] * loss
        log_scale = self._log_scale(name)
        return self.weights[name] * ((-log_scale).exp() * loss + 0.5 * log_scale)

    def _log_scale(self, name: str) -> Tensor:
        return soft_bound(self.raw_log_scales[name], -5.0, 5.0)
