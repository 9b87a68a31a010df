"""The mean over the faces that count: states are sums, so it is exact over uneven ranks."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MaskedMean(Metric):
    """Base of metrics that average a value per face over the faces that count.

    ``compute`` gives a float64 scalar, NaN when nothing was counted.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the mean over all faces counted so far."""
        return self.total / self.count

    def _accumulate(self, values: Tensor, counted: Tensor) -> None:
        """Add the values ``(N,)`` of the faces that are counted, a bool mask ``(N,)``.

        Raises:
            ValueError: If the shapes differ (broadcasting would count pairs of faces).
        """
        check_shapes(values, counted)
        self.total += torch.where(counted, values.double(), 0.0).sum()
        self.count += counted.sum()


def check_shapes(values: Tensor, counted: Tensor) -> None:
    """Refuse values and labels of different shapes: broadcasting would count pairs of faces.

    Raises:
        ValueError: If they differ.
    """
    if values.shape != counted.shape:
        raise ValueError(f"{tuple(values.shape)} predictions for {tuple(counted.shape)} labels")
