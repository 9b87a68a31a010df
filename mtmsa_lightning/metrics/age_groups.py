"""Accuracy over age groups."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.metrics.base import predicted_classes
from mtmsa_lightning.metrics.masked_mean import MaskedMean, PerFace
from mtmsa_lightning.models.distributions import AgeDistribution


class GroupAccuracy(MaskedMean):
    """Fraction of faces whose predicted age group is at most ``offset`` groups away from the true one.

    Groups are decided in gapless cells. The cell of a label is the one that contains its midpoint (an edge
    belongs to the cell below); the predicted cell is the most probable one, or that of a predicted age.

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

    def __init__(self, edges: Sequence[float] = AGE_GROUP_EDGES, offset: int = 0, **kwargs: Any) -> None:
        super().__init__(settings=[*edges, offset], **kwargs)
        if not edges or list(edges) != sorted(set(edges)):
            raise ValueError(f"edges must increase, one or more, got {list(edges)}")
        if offset < 0:
            raise ValueError(f"offset must not be negative, got {offset}")
        self.offset = offset
        self.edge_list = tuple(edges)
        self.register_buffer("edges", torch.tensor(edges, dtype=torch.float64), persistent=False)

    def cells(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted cell (-1 for NaN) and the label's cell, indices ``(N,)`` each."""
        middle = (low.double() + high.double()) / 2
        return predicted_classes(preds.group_probs(self.edge_list)), torch.bucketize(middle, self.edges)

    def per_face(self, preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
        """Return whether the group is right, of faces with a label."""
        predicted, labelled = self.cells(preds, low, high)
        return (predicted >= 0) & ((predicted - labelled).abs() <= self.offset), ~(low + high).isnan()
