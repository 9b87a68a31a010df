"""Errors of the predicted age, the mean of the distribution, in years.

All metrics of age have one contract, ``update(distribution, low, high)``: predicted distributions of N faces
and their labels in completed years, ``(N,)`` each, NaN where missing. Those here count faces with an exact
label (``low == high``) only; ``e = prediction - age`` of a face, the prediction neither rounded nor cut at 0.
Where nothing was counted, ``compute`` gives NaN.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning.metrics.masked_mean import MaskedMean, check_shapes
from mtmsa_lightning.models.distributions import AgeDistribution

MIN_FACES = 50
"""Faces below which a group of faces gets no metric of its own."""

DECADES = 14
"""Decades of age, 0-9 to 130-139; the last one holds all older ages too."""


class AgeMAE(MaskedMean):
    """Mean absolute error, ``mean |e|``, in years."""

    is_differentiable = True
    higher_is_better = False

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``|e|`` of faces with an exact age."""
        return (distribution.mean - low).abs(), low == high


class AgeRMSE(MaskedMean):
    """Root mean squared error, ``sqrt(mean e^2)``, in years."""

    is_differentiable = True
    higher_is_better = False

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``e^2`` of faces with an exact age."""
        return (distribution.mean - low).square(), low == high

    def of_mean(self, mean: Tensor) -> Tensor:
        """Return the root of the mean square."""
        return mean.sqrt()


class AgeBias(MaskedMean):
    """Mean signed error, ``mean e``, in years: above 0 where people are taken for older than they are."""

    is_differentiable = True
    higher_is_better = None  # best at 0

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``e`` of faces with an exact age."""
        return distribution.mean - low, low == high


class CumulativeScore(MaskedMean):
    """Cumulative score CS@n: share of faces with ``|e| <= n``, a fraction in 0 to 1.

    Args:
        threshold: Tolerance n in years, included.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, threshold: float = 5.0, **kwargs: Any) -> None:
        super().__init__(settings=[threshold], **kwargs)
        self.threshold = threshold

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether ``|e|`` is within the tolerance, of faces with an exact age."""
        return (distribution.mean - low).abs() <= self.threshold, low == high


class CumulativeScoreArea(MaskedMean):
    """Area under the curve CS@t for t from 0 to ``limit`` years, divided by ``limit``: a fraction in 0 to 1.

    The curve is a step function, so its area has a closed form: ``mean max(0, 1 - |e| / limit)``.

    Args:
        limit: Where the curve ends, in years.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = True
    higher_is_better = True

    def __init__(self, limit: float = 30.0, **kwargs: Any) -> None:
        super().__init__(settings=[limit], **kwargs)
        self.limit = limit

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``max(0, 1 - |e| / limit)`` of faces with an exact age."""
        return (1 - (distribution.mean - low).abs() / self.limit).clamp(min=0), low == high


class CumulativeScoreCurve(Metric):
    """The curve CS@n at n = 0, 1, ..., ``limit`` years: ``compute`` gives ``(limit + 1,)`` fractions.

    Args:
        limit: Where the curve ends, in years.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    within: Tensor
    count: Tensor

    def __init__(self, limit: int = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("within", torch.zeros(limit + 1, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> None:
        """Add a batch; arguments as for :class:`AgeMAE`."""
        error, exact = (distribution.mean - low).abs(), low == high
        check_shapes(error, exact)
        thresholds = torch.arange(len(self.within), device=error.device)
        self.within += ((error[:, None] <= thresholds) & exact[:, None]).sum(0)
        self.count += exact.sum()

    def compute(self) -> Tensor:
        """Return the fractions, float64."""
        return self.within.double() / self.count


class DecadeMAE(Metric):
    """Mean absolute error per decade of the true age: ``compute`` gives ``(DECADES,)`` years.

    Decades are 0-9, 10-19 and so on; a decade with fewer than ``min_faces`` faces has NaN.

    Args:
        min_faces: Fewest faces of a decade that gets a metric.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = True
    higher_is_better: bool | None = False
    error_by_decade: Tensor
    count: Tensor

    def __init__(self, min_faces: int = MIN_FACES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_faces = min_faces
        self.add_state("error_by_decade", torch.zeros(DECADES, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(DECADES, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> None:
        """Add a batch; arguments as for :class:`AgeMAE`."""
        error, exact = (distribution.mean - low).abs(), low == high
        check_shapes(error, exact)
        decade = (torch.where(exact, low, 0.0) // 10).long().clamp(0, DECADES - 1)
        inside = (decade[:, None] == torch.arange(DECADES, device=decade.device)) & exact[:, None]
        self.error_by_decade += torch.where(inside, error.double()[:, None], 0.0).sum(0)
        self.count += inside.sum(0)

    def compute(self) -> Tensor:
        """Return the errors per decade, float64."""
        return torch.where(self.count >= max(1, self.min_faces), self.error_by_decade / self.count, torch.nan)


class WorstDecadeMAE(DecadeMAE):
    """Largest mean absolute error of a decade of the true age that has enough faces, in years.

    NaN if none has. Arguments as for :class:`DecadeMAE`.
    """

    def compute(self) -> Tensor:
        """Return the largest error, a float64 scalar."""
        errors = super().compute()
        worst = errors.nan_to_num(-torch.inf).max()
        return torch.where(worst.isfinite(), worst, torch.nan)
