"""The age loss for Gaussian predictions.

Without any label its sum is an exact zero that is still part of the graph: DDP needs all gradients.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from mtmsa_lightning.losses.special import log_normal_interval

HALF_YEAR = 0.5


class GaussianKLLoss(nn.Module):
    """Kullback-Leibler divergence from age labels (exact or intervals) to a Gaussian prediction.

    With ``a = log sigma^2`` and ``d = label - mean``:

    - exact label: KL(Dirac || Gaussian) up to a constant, ``exp(-a) d^2 / 2 + a / 2``; with
      ``form="robust"`` it is ``exp(-a) (|d| - 1/2) + a / 2`` where ``|d| > 1`` (He et al., "Bounding Box
      Regression with Uncertainty", CVPR 2019, equations 9 and 10). Sigma is then not a standard deviation.
    - group label: interval-censored likelihood,
      ``-log P(low - half_width <= age <= high + half_width)``. For narrow groups it equals the exact form
      plus ``log(2 pi) / 2 - log(width)``, with the same gradients.

    The exact form can be negative because a density has no upper bound. Computed in float64.

    Args:
        form: ``exact`` or ``robust``.
        beta: Weight each term by ``stop_grad(sigma^(2 beta))``, so that hard samples keep a gradient
            (beta-NLL; Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation", ICLR 2022,
            equation 6). 0 is off; 1 gives the mean the gradient of the squared error.

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
        self,
        mean: Tensor,
        log_variance: Tensor,
        low: Tensor,
        high: Tensor,
        half_width: Tensor | float = HALF_YEAR,
    ) -> tuple[Tensor, Tensor]:
        """Return the float64 sum over labelled rows and their int64 count; see :meth:`per_sample`."""
        count = (~(low + high).isnan()).sum()
        return self.per_sample(mean, log_variance, low, high, half_width).sum(), count

    def per_sample(
        self,
        mean: Tensor,
        log_variance: Tensor,
        low: Tensor,
        high: Tensor,
        half_width: Tensor | float = HALF_YEAR,
    ) -> Tensor:
        """Return the loss of each row in float64, ``(N,)``, zero where the label is missing.

        ``log_variance`` is ``log sigma^2``, bounded by the caller; ``half_width`` is half a year in the units
        of the labels, added at both ends of a group. ValueError if the shapes differ.
        """
        if not mean.shape == log_variance.shape == low.shape == high.shape:
            shapes = [tuple(t.shape) for t in (mean, log_variance, low, high)]
            raise ValueError(f"mean, log_variance, low and high must have one shape, got {shapes}")
        mean, log_variance = mean.double(), log_variance.double()
        exact, group = low == high, ~(low + high).isnan() & (low != high)
        # Rows of the other kinds get finite values: where() would multiply their NaN gradients by 0.
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
