"""Cross-entropy that skips missing labels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedCrossEntropy(nn.Module):
    """Cross-entropy of ``logits (N, K)`` and ``target (N,)``, -1 where missing, in float32 or better.

    Args:
        label_smoothing: Fraction of the label that is spread evenly over all classes, in [0, 1).
        class_weights: One positive weight per class. The count is then the sum of the weights of the labels,
            so that ``sum / count`` is torch's weighted mean, also over several ranks.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if class_weights is not None and not all(0 < weight < math.inf for weight in class_weights):
            raise ValueError(f"class weights must be positive and finite, got {list(class_weights)}")
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self, logits: Tensor, target: Tensor, classes: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sum over labelled rows, and their count (int64) or sum of class weights (float).

        With ``classes``, indices in increasing order, the others do not exist: their logits have no gradient,
        and rows labelled with them are skipped.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        if classes is not None:
            # an index tensor would wait for its copy to the device
            logits, all_labels = torch.stack([logits[:, index] for index in classes], 1), target
            target = torch.full_like(target, -1)
            for position, index in enumerate(classes):
                target = torch.where(all_labels == index, position, target)
            weights = None if weights is None else torch.stack([weights[index] for index in classes])
        labelled = target != -1
        options: dict[str, Any] = {"label_smoothing": self.label_smoothing, "ignore_index": -1}
        total = F.cross_entropy(logits, target, weights, reduction="sum", **options)
        if weights is None:
            return total, labelled.sum()
        return total, (weights[target.clamp(min=0)] * labelled).sum()
