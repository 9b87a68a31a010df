"""Metrics of gender and race.

States are sums, so that results are exact over uneven ranks. Unlike torchmetrics' classes, ``update`` does
not wait for the device to mask missing labels, -1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtmsa_lightning.metrics.base import ECE_BINS, PlotMetric, check_shapes, predicted_classes


class ClassAccuracy(PlotMetric):
    """Fraction of faces whose most probable class is the true one; NaN without labels.

    Args:
        num_classes: Number of classes.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    right: Tensor
    count: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("right", "count"):  # of the faces of each class
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, target: Tensor) -> None:
        """Add a batch of probabilities, ``(N, classes)``, and class indices, ``(N,)``, -1 where missing."""
        check_shapes(probs[:, 0], target)
        of_class = target[:, None] == torch.arange(len(self.count), device=target.device)
        self.right += (of_class & (predicted_classes(probs) == target)[:, None]).sum(0)
        self.count += of_class.sum(0)

    def compute(self) -> Tensor:
        """Return the accuracy, a float64 scalar."""
        return self.right.sum().double() / self.count.sum()


class BalancedAccuracy(ClassAccuracy):
    """Mean recall of all classes that occur among the labels; NaN without labels.

    torchmetrics' accuracy with ``average="macro"`` gives a class that is predicted but does not occur a
    recall of 0. Arguments as for :class:`ClassAccuracy`.
    """

    def compute(self) -> Tensor:
        """Return the accuracy, a float64 scalar."""
        return torch.where(self.count > 0, self.right.double() / self.count, torch.nan).nanmean()


class ReliabilityBins(NamedTuple):
    """Mean confidence and accuracy, NaN in an empty bin, and number of faces, ``(bins,)`` each."""

    confidence: Tensor
    accuracy: Tensor
    faces: Tensor


class ClassCalibrationError(PlotMetric):
    """Expected calibration error (ECE): ``sum over bins of count / n * |accuracy - mean confidence|``.

    Confidence is the largest probability. Bins have equal width; a confidence on an edge belongs to the bin
    above, 1 to the last (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3). NaN
    without labels.

    torchmetrics' class stores every confidence, treats logits in [0, 1] as probabilities, and has a separate
    bin for a confidence of 1; otherwise the results agree.

    Args:
        bins: Number of bins.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = False
    confidence: Tensor
    right: Tensor
    count: Tensor

    def __init__(self, bins: int = ECE_BINS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("confidence", "right", "count"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, target: Tensor) -> None:
        """Add a batch; arguments as for :class:`ClassAccuracy`."""
        confidence, valid = probs.double().amax(dim=1), (target >= 0).double()
        right = (predicted_classes(probs) == target) * valid
        edges = torch.linspace(0, 1, len(self.count) + 1, dtype=torch.float64, device=probs.device)
        bin_of = torch.bucketize(confidence, edges[1:-1], right=True)
        for name, values in (("confidence", confidence * valid), ("right", right), ("count", valid)):
            batch = torch.zeros_like(self.count).index_add(0, bin_of, values)
            setattr(self, name, getattr(self, name) + batch)

    def compute(self) -> Tensor:
        """Return the error, a float64 scalar."""
        return (self.right - self.confidence).abs().sum() / self.count.sum()

    def diagram(self) -> ReliabilityBins:
        """Return the bins of the faces of this process."""
        return ReliabilityBins(self.confidence / self.count, self.right / self.count, self.count.long())
