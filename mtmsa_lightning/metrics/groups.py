"""Accuracy over age groups."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtmsa_lightning.metrics.classes import predicted_classes
from mtmsa_lightning.metrics.masked_mean import MaskedMean
from mtmsa_lightning.models.distributions import AgeDistribution


class GroupAccuracy(MaskedMean):
    """Share of faces whose predicted age group is at most ``offset`` groups away from the right one.

    Groups are decided in gapless cells. The label's cell is the one that holds its midpoint, an edge
    belonging to the cell below; the predicted cell is the most probable one. Faces without a label are not
    counted.

    Args:
        edges: Increasing edges between cells in years; G groups have G - 1 edges.
        offset: 0 for exact accuracy, 1 for one-off accuracy.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the edges do not increase or the offset is negative.
    """

    is_differentiable = False
    higher_is_better = True
    edges: Tensor

    def __init__(self, edges: Sequence[float], offset: int = 0, **kwargs: Any) -> None:
        super().__init__(settings=[*edges, offset], **kwargs)
        if not edges or list(edges) != sorted(set(edges)):
            raise ValueError(f"edges must increase, one or more, got {list(edges)}")
        if offset < 0:
            raise ValueError(f"offset must not be negative, got {offset}")
        self.offset = offset
        self.edge_list = tuple(edges)
        self.register_buffer("edges", torch.tensor(edges, dtype=torch.float64), persistent=False)

    def cells(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted cell and the label's, indices ``(N,)`` each; of no meaning without a label.

        The predicted cell is -1 where a probability is NaN.
        """
        midpoint = (low.double() + high.double()) / 2
        predicted = predicted_classes(distribution.group_probs(self.edge_list))
        return predicted, torch.bucketize(midpoint, self.edges)

    def per_face(self, distribution: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether the group is right, of faces with a label."""
        predicted, labelled = self.cells(distribution, low, high)
        right = (predicted >= 0) & ((predicted - labelled).abs() <= self.offset)
        return right, ~(low + high).isnan()
