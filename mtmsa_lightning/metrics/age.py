"""Metrics of the error of the predicted age.

Metrics of age are updated by ``update(preds, target, high)``: distributions of age of N faces, or ages in
years, and labels in completed years, NaN where missing; without ``high`` all labels are exact, or pairs of
ends. The metrics here use faces with an exact label only. ``e = prediction - age`` is the error of a face,
with the mean of the distribution as prediction, neither rounded nor clipped at 0. ``compute`` is NaN without
such faces.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities.plot import plot_curve

from mtmsa_lightning.metrics.base import (
    CS_LIMIT,
    CS_YEARS,
    Labels,
    PlotMetric,
    Predictions,
    age_inputs,
    check_shapes,
)
from mtmsa_lightning.metrics.masked_mean import MaskedMean, PerFace
from mtmsa_lightning.models.distributions import AgeDistribution


class AgeMAE(MaskedMean):
    """Mean absolute error, ``mean |e|``, in years."""

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return ``|e|``."""
        return (preds.mean - low).abs(), low == high


class AgeRMSE(MaskedMean):
    """Root mean squared error, ``sqrt(mean e^2)``, in years."""

    is_differentiable = True
    higher_is_better = False

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return ``e^2``."""
        return (preds.mean - low).square(), low == high

    def of_mean(self, mean: Tensor) -> Tensor:
        """Return the root of the mean square."""
        return mean.sqrt()


class AgeBias(MaskedMean):
    """Mean signed error, ``mean e``, in years; positive if ages are overestimated."""

    is_differentiable = True
    higher_is_better = None  # best at 0

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return ``e``."""
        return preds.mean - low, low == high


class CumulativeScore(MaskedMean):
    """Cumulative score CS@n: fraction of faces with ``|e| <= n``, in [0, 1].

    Args:
        threshold: Tolerance n in years, included.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, threshold: float = CS_YEARS, **kwargs: Any) -> None:
        super().__init__(settings=[threshold], **kwargs)
        self.threshold = threshold

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return whether ``|e|`` is within the tolerance."""
        return (preds.mean - low).abs() <= self.threshold, low == high


class CumulativeScoreArea(MaskedMean):
    """Area under the curve CS@t for t from 0 to ``limit`` years, divided by ``limit``, in [0, 1].

    The curve is a step function, so its area has a closed form: ``mean max(0, 1 - |e| / limit)``.

    Args:
        limit: Last tolerance of the curve, in years.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = True
    higher_is_better = True

    def __init__(self, limit: float = CS_LIMIT, **kwargs: Any) -> None:
        super().__init__(settings=[limit], **kwargs)
        self.limit = limit

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return ``max(0, 1 - |e| / limit)``."""
        return (1 - (preds.mean - low).abs() / self.limit).clamp(min=0), low == high


class CumulativeScoreCurve(PlotMetric):
    """The curve CS@n at n = 0, 1, ..., ``limit`` years: ``compute`` returns fractions ``(limit + 1,)``.

    Args:
        limit: Last tolerance of the curve, in years.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    within: Tensor
    count: Tensor

    def __init__(self, limit: int = CS_LIMIT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("within", torch.zeros(limit + 1, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Predictions, target: Labels, high: Tensor | None = None) -> None:
        """Add a batch; arguments as for :class:`AgeMAE`."""
        dist, low, high = age_inputs(preds, target, high)
        error, exact = (dist.mean - low).abs(), low == high
        check_shapes(error, exact)
        thresholds = torch.arange(len(self.within), device=error.device)
        self.within += ((error[:, None] <= thresholds) & exact[:, None]).sum(0)
        self.count += exact.sum()

    def compute(self) -> Tensor:
        """Return the fractions, float64."""
        return self.within.double() / self.count

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot the curve; as :meth:`.PlotMetric.plot`."""
        curve = self.compute() if val is None else val
        years = torch.arange(len(curve))
        names = ("tolerance (years)", "cumulative score")
        return plot_curve((years, curve.cpu(), years), ax=ax, label_names=names, name=type(self).__name__)
