"""Mean of a task's loss over all labelled faces."""

import torch
from torch import Tensor

from mtmsa_lightning.metrics.base import PlotMetric


class TaskLoss(PlotMetric):
    """Mean loss from (sum, count) pairs, exact for uneven batches and ranks; NaN without labels."""

    loss_sum: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss_sum: Tensor, count: Tensor) -> None:
        """Add the sum of the losses of labelled faces, and their number or sum of class weights, scalars."""
        self.loss_sum += loss_sum.detach()
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean, a float64 scalar."""
        return self.loss_sum / self.count
