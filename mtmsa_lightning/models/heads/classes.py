"""The class head, for gender and race."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mtmsa_lightning.losses.classification import MaskedCrossEntropy
from mtmsa_lightning.models.heads.float32_linear import Float32Linear


class ClassHead(nn.Module):
    """Predict class logits, trained by cross-entropy.

    Args:
        in_features: Length of the feature vector.
        num_classes: Number of classes K, 2 or more.
        label_smoothing: See :class:`~mtmsa_lightning.losses.classification.MaskedCrossEntropy`.
        class_weights: One weight per class, see ``MaskedCrossEntropy``.
        dropout: Probability of dropping a feature in training.

    Attributes:
        init_args: Constructor arguments except ``in_features`` and ``num_classes``, as plain values.

    Shape:
        Features ``(N, in_features)``, logits ``(N, K)`` in float32.

    Raises:
        ValueError: If there are fewer than 2 classes, or not as many weights as classes.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a class head needs 2 classes or more, got {num_classes}")
        if class_weights is not None and len(class_weights) != num_classes:
            raise ValueError(f"{len(class_weights)} class weights for {num_classes} classes")
        self.init_args: dict[str, Any] = {
            "label_smoothing": label_smoothing,
            "class_weights": None if class_weights is None else list(class_weights),
            "dropout": dropout,
        }
        self.criterion = MaskedCrossEntropy(label_smoothing, class_weights)
        self.dropout = nn.Dropout(dropout)
        self.linear = Float32Linear(in_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, ``(N, K)``."""
        logits: Tensor = self.linear(self.dropout(features))
        return logits

    def loss(
        self, logits: Tensor, target: Tensor, classes: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sum over labelled rows and their (weighted) count; a ``target`` of -1 is missing.

        ``classes`` are the indices of the trained classes, by default all.
        """
        total, count = self.criterion(logits, target, classes)
        return total, count
