"""Whether the predicted standard deviation tells large errors from small ones.

These need all faces at once, so the states keep std and error of every face and are joined over the ranks.
Contract as in :mod:`mtmsa_lightning.metrics.age`; only exact labels count. Faces of equal standard deviation
have no order: each is given their mean error, which is the expectation over all orders, so that the metrics
do not depend on the order of the faces.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mtmsa_lightning.metrics.masked_mean import check_shapes
from mtmsa_lightning.models.distributions import AgeDistribution

BINS = 10
"""Bins of the expected normalised calibration error."""


class _FaceErrors(Metric):
    """Keeps the predicted standard deviation and the absolute error of every face, in years."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    std: list[Tensor]
    error: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("std", [], dist_reduce_fx="cat")
        self.add_state("error", [], dist_reduce_fx="cat")

    def update(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> None:
        """Add a batch.

        Args:
            distribution: Predicted distributions of N faces.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; faces with ``low < high`` (a group) are not counted.
        """
        error, exact = (distribution.mean - low).abs().double(), low == high
        check_shapes(error, exact)
        # NaN marks what does not count: picking rows here would make a GPU wait
        self.error.append(torch.where(exact, error, torch.nan))
        self.std.append(distribution.std.double())

    def _counted(self) -> tuple[Tensor, Tensor]:
        """Return std and absolute error of the faces that count."""
        if len(self.std) == 0:
            nothing = torch.zeros(0, dtype=torch.float64, device=self.device)
            return nothing, nothing
        std, error = dim_zero_cat(self.std), dim_zero_cat(self.error)
        counted = ~error.isnan()
        return std[counted], error[counted]


class ENCE(_FaceErrors):
    """Expected normalised calibration error of the predicted standard deviation; 0 is best.

    Faces are sorted by predicted std and cut into bins of equal count (sizes differ by at most one). With
    ``RMV = sqrt(mean std^2)`` and ``RMSE = sqrt(mean error^2)`` of each bin, it is the mean of
    ``|RMV - RMSE| / RMV`` over the bins (Levi et al., "Evaluating and Calibrating Uncertainty Prediction in
    Regression Tasks", Sensors 22(15), 2022). NaN with fewer faces than bins. Chance alone lifts it above 0,
    the more so the fewer faces a bin holds: compare metrics of equal numbers of faces and bins.

    Args:
        bins: Number of bins.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    def __init__(self, bins: int = BINS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins

    def compute(self) -> Tensor:
        """Return the error, a float64 scalar."""
        return normalised_calibration_error(*self._counted(), self.bins)


class AURC(_FaceErrors):
    """Area under the risk-coverage curve of age, in years: selective prediction by predicted std.

    With the faces sorted by predicted std, the risk at coverage k / n is the mean absolute error of the k
    surest; the area is the mean risk over k = 1 ... n (Geifman, Uziel & El-Yaniv, "Bias-Reduced Uncertainty
    Estimation for Deep Neural Classifiers", ICLR 2019, with the absolute error as the loss). An std that says
    nothing gives about the MAE; less is better.
    """

    def compute(self) -> Tensor:
        """Return the area, a float64 scalar; NaN if nothing was counted."""
        return self.curve().risk.mean()

    def curve(self) -> "RiskCoverageCurve":
        """Return the curve of the faces that this process has counted."""
        return risk_coverage(*self._counted())


class RiskCoverageCurve(NamedTuple):
    """Risk of the k surest faces, k = 1 ... n.

    Attributes:
        coverage: ``k / n``, ``(n,)``.
        risk: Mean absolute error of these faces in years, ``(n,)``.
        std: Largest predicted std among them in years, ``(n,)``: the threshold that keeps them.
    """

    coverage: Tensor
    risk: Tensor
    std: Tensor


def risk_coverage(std: Tensor, error: Tensor) -> RiskCoverageCurve:
    """Return the risk-coverage curve.

    Args:
        std: Predicted standard deviations in years, ``(n,)``.
        error: Absolute errors in years, ``(n,)``.
    """
    std, error = _by_std(std, error)
    faces = torch.arange(1, len(std) + 1, dtype=torch.float64, device=std.device)
    return RiskCoverageCurve(faces / len(std), error.cumsum(0) / faces, std)


def normalised_calibration_error(std: Tensor, error: Tensor, bins: int = BINS) -> Tensor:
    """Return the expected normalised calibration error, see :class:`ENCE`; arguments as above."""
    if len(std) < bins:
        return std.new_tensor(torch.nan)
    std, square = _by_std(std, error.square())
    parts = zip(std.square().tensor_split(bins), square.tensor_split(bins), strict=True)
    roots = [(variance.mean().sqrt(), squares.mean().sqrt()) for variance, squares in parts]
    return torch.stack([(rmv - rmse).abs() / rmv for rmv, rmse in roots]).mean()


def _by_std(std: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by std; values of faces with equal std become their mean."""
    std, order = std.sort(stable=True)
    _, tie, sizes = torch.unique_consecutive(std, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(sizes), dtype=values.dtype, device=values.device).index_add_(0, tie, values[order])
    return std, (sums / sizes)[tie]
