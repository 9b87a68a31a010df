"""Metrics of gender and race beside those that torchmetrics has.

Contract: ``update(probs, target)`` with probabilities ``(N, classes)`` and class indices ``(N,)``, -1 where
missing. States are sums, so they are exact over uneven ranks. ``update`` never waits for the device, as
torchmetrics' own classes do to leave out missing labels.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 15
"""Bins of the expected calibration error."""


def predicted_classes(probs: Tensor) -> Tensor:
    """Return the most probable class, ``(N,)``; -1, which no label equals, where a probability is NaN."""
    return torch.where(probs.isnan().any(dim=1), -1, probs.argmax(dim=1))


class ClassAccuracy(Metric):
    """Share of faces whose most probable class is the right one; NaN if nothing was counted.

    Args:
        num_classes: Number of classes.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    right: Tensor
    count: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("right", "count"):  # of the faces of each class
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            probs: Probabilities, ``(N, classes)``.
            target: Class indices, ``(N,)``; -1 where missing.
        """
        of_class = target[:, None] == torch.arange(len(self.count), device=target.device)
        self.right += (of_class & (predicted_classes(probs) == target)[:, None]).sum(0)
        self.count += of_class.sum(0)

    def compute(self) -> Tensor:
        """Return the metric, a float64 scalar."""
        return self.right.sum().double() / self.count.sum()


class BalancedAccuracy(ClassAccuracy):
    """Mean of the recalls of all classes that occur among the labels; NaN if none does.

    torchmetrics' accuracy with ``average="macro"`` counts a class that is predicted but does not occur as a
    recall of 0. Arguments as for :class:`ClassAccuracy`.
    """

    def compute(self) -> Tensor:
        """Return the metric, a float64 scalar."""
        recalls = torch.where(self.count > 0, self.right.double() / self.count, torch.nan)
        return recalls.nanmean()


class ReliabilityBins(NamedTuple):
    """A reliability diagram: one entry per bin of confidence.

    Attributes:
        confidence: Mean confidence, ``(bins,)``; NaN in an empty bin.
        accuracy: Share of right predictions, ``(bins,)``; NaN in an empty bin.
        faces: Number of faces, ``(bins,)``.
    """

    confidence: Tensor
    accuracy: Tensor
    faces: Tensor


class ClassCalibrationError(Metric):
    """Expected calibration error (ECE): ``sum over bins of count / n * |accuracy - mean confidence|``.

    Confidence is the largest probability; bins of equal width, a confidence on an edge belonging to the bin
    above, 1 to the last (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3). NaN if
    nothing was counted.

    torchmetrics' class keeps every confidence, takes logits for probabilities when they happen to lie between
    0 and 1, and gives a confidence of 1 a bin of its own; otherwise the metrics agree.

    Args:
        bins: Number of bins.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    confidence: Tensor
    right: Tensor
    count: Tensor

    def __init__(self, bins: int = BINS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("confidence", "right", "count"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, target: Tensor) -> None:
        """Add a batch; arguments as for :class:`ClassAccuracy`."""
        confidence, predicted = probs.double().amax(dim=1), predicted_classes(probs)
        edges = torch.linspace(0, 1, len(self.count) + 1, dtype=torch.float64, device=probs.device)
        bin_of = torch.bucketize(confidence, edges[1:-1], right=True)
        counted = (target >= 0).double()
        self.confidence += torch.zeros_like(self.confidence).index_add_(0, bin_of, confidence * counted)
        self.right += torch.zeros_like(self.right).index_add_(0, bin_of, (predicted == target) * counted)
        self.count += torch.zeros_like(self.count).index_add_(0, bin_of, counted)

    def compute(self) -> Tensor:
        """Return the error, a float64 scalar."""
        return (self.right - self.confidence).abs().sum() / self.count.sum()

    def diagram(self) -> ReliabilityBins:
        """Return the bins of the faces that this process has counted."""
        return ReliabilityBins(self.confidence / self.count, self.right / self.count, self.count.long())
