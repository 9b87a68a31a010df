"""Metrics of the predicted standard deviation of age.

They need all faces at once: states hold std and error of every face and are concatenated over the ranks. Only
exact labels are used; the metrics are NaN if a prediction is. Faces with equal standard deviation all get
their mean error, the expectation over all orders of the faces.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from mtmsa_lightning.metrics.base import ENCE_BINS, Labels, PlotMetric, Predictions, age_inputs, check_shapes


class RiskCoverageCurve(NamedTuple):
    """Coverage ``k / n`` of the k most certain faces, k = 1 ... n, with risk and std in years, ``(n,)`` each.

    The risk is their mean absolute error, the std the largest predicted one: the threshold that keeps them.
    """

    coverage: Tensor
    risk: Tensor
    std: Tensor


def risk_coverage(std: Tensor, error: Tensor) -> RiskCoverageCurve:
    """Return the risk-coverage curve of predicted std and absolute errors in years, ``(n,)`` each."""
    std, error = _by_std(std, error)
    faces = torch.arange(1, len(std) + 1, dtype=torch.float64, device=std.device)
    return RiskCoverageCurve(faces / len(std), error.cumsum(0) / faces, std)


def normalised_calibration_error(std: Tensor, error: Tensor, bins: int = ENCE_BINS) -> Tensor:
    """Return the :class:`ENCE`; arguments as for :func:`risk_coverage`."""
    if len(std) < bins:
        return std.new_tensor(torch.nan)
    std, square = _by_std(std, error.square())
    parts = zip(std.square().tensor_split(bins), square.tensor_split(bins), strict=True)
    roots = [(variance.mean().sqrt(), squares.mean().sqrt()) for variance, squares in parts]
    return torch.stack([(rmv - rmse).abs() / rmv for rmv, rmse in roots]).mean()


def _by_std(std: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by std; replace the values of faces with equal std by their mean."""
    std, order = std.sort(stable=True)
    _, tie, sizes = torch.unique_consecutive(std, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(sizes), dtype=values.dtype, device=values.device).index_add_(0, tie, values[order])
    return std, (sums / sizes)[tie]


class _FaceErrors(PlotMetric):
    """Stores the predicted standard deviation and the absolute error of every face, in years."""

    is_differentiable = False
    higher_is_better = False
    std: list[Tensor]
    error: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("std", [], dist_reduce_fx="cat")
        self.add_state("error", [], dist_reduce_fx="cat")

    def update(self, preds: Predictions, target: Labels, high: Tensor | None = None) -> None:
        """Add a batch; arguments as for :func:`~mtmsa_lightning.metrics.base.age_inputs`."""
        dist, low, high = age_inputs(preds, target, high)
        std, error, exact = dist.std.double(), (dist.mean - low).abs().double(), low == high
        check_shapes(error, exact)
        error = error.where(~std.isnan(), torch.nan)
        # -1 marks faces without an exact age: selecting rows here would wait for the device
        self.error.append(error.where(exact, -1.0))
        self.std.append(std)

    def _valid(self) -> tuple[Tensor, Tensor]:
        """Return std and absolute error of the valid faces."""
        if len(self.std) == 0:
            nothing = torch.zeros(0, dtype=torch.float64, device=self.device)
            return nothing, nothing
        std, error = dim_zero_cat(self.std), dim_zero_cat(self.error)
        valid = error != -1
        return std[valid], error[valid]


class ENCE(_FaceErrors):
    """Expected normalised calibration error of the predicted standard deviation; 0 is best.

    Faces are sorted by predicted std and cut into bins of equal count (sizes differ by at most one). With
    ``RMV = sqrt(mean std^2)`` and ``RMSE = sqrt(mean error^2)`` of each bin, it is the mean of ``|RMV - RMSE|
    / RMV`` over the bins (Levi et al., "Evaluating and Calibrating Uncertainty Prediction in Regression
    Tasks", Sensors 22(15), 2022). NaN with fewer faces than bins. Sampling noise makes it positive, more so
    with fewer faces per bin: compare only equal numbers of faces and bins.

    Args:
        bins: Number of bins.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    def __init__(self, bins: int = ENCE_BINS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins

    def compute(self) -> Tensor:
        """Return the error, a float64 scalar."""
        return normalised_calibration_error(*self._valid(), self.bins)


class AURC(_FaceErrors):
    """Area under the risk-coverage curve of age, in years: selective prediction by predicted std.

    With the faces sorted by predicted std, the risk at coverage k / n is the mean absolute error of the k
    most certain faces; the area is the mean risk over k = 1 ... n (Geifman, Uziel & El-Yaniv, "Bias-Reduced
    Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019, with the absolute error as the loss). An
    uninformative std gives about the MAE; lower is better.
    """

    def compute(self) -> Tensor:
        """Return the area, a float64 scalar; NaN without valid faces."""
        return self.curve().risk.mean()

    def curve(self) -> RiskCoverageCurve:
        """Return the curve of the faces of this process."""
        return risk_coverage(*self._valid())
