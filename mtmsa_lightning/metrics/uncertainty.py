"""Metrics of the predicted standard deviation of age.

They need all faces at once: states hold std and error of every face and are concatenated over the ranks.
Arguments as in :mod:`mtmsa_lightning.metrics.age`; only exact labels are used. Faces with equal standard
deviation all get their mean error, the expectation over all orders of the faces.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from mtmsa_lightning.metrics.base import Labels, PlotMetric, Predictions, age_inputs, check_shapes
from mtmsa_lightning.metrics.functional import (
    ENCE_BINS,
    RiskCoverageCurve,
    age_errors,
    normalised_calibration_error,
    risk_coverage,
)


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

    def update(self, preds: Predictions, low: Labels, high: Tensor | None = None) -> None:
        """Add a batch; arguments as for :func:`~mtmsa_lightning.metrics.base.age_inputs`."""
        dist, low, high = age_inputs(preds, low, high)
        error, exact = age_errors(dist, low, high)
        check_shapes(error, exact)
        # NaN marks invalid faces: selecting rows here would wait for the device
        self.error.append(torch.where(exact, error.abs().double(), torch.nan))
        self.std.append(dist.std.double())

    def _valid(self) -> tuple[Tensor, Tensor]:
        """Return std and absolute error of the valid faces."""
        if len(self.std) == 0:
            nothing = torch.zeros(0, dtype=torch.float64, device=self.device)
            return nothing, nothing
        std, error = dim_zero_cat(self.std), dim_zero_cat(self.error)
        valid = ~error.isnan()
        return std[valid], error[valid]


class ENCE(_FaceErrors):
    """Expected normalised calibration error of the predicted standard deviation; 0 is best.

    Faces are sorted by predicted std and cut into bins of equal count (sizes differ by at most one). With
    ``RMV = sqrt(mean std^2)`` and ``RMSE = sqrt(mean error^2)`` of each bin, it is the mean of
    ``|RMV - RMSE| / RMV`` over the bins (Levi et al., "Evaluating and Calibrating Uncertainty Prediction in
    Regression Tasks", Sensors 22(15), 2022). NaN with fewer faces than bins. Sampling noise
    makes it positive, more so with fewer faces per bin: compare only equal numbers of faces and bins.

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
