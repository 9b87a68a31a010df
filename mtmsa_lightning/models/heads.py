"""Heads: from the trunk's feature vector to a distribution of age and to class logits."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtmsa_lightning.losses import GaussianKLLoss, MaskedCrossEntropy, soft_bound
from mtmsa_lightning.models.age_distribution import AgeDistribution, GaussianAge


class _Float32Linear(nn.Linear):
    """Linear layer computed in float32 or better, under autocast and with half-precision weights too."""

    def forward(self, input: Tensor) -> Tensor:
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.to(dtype), self.weight.to(dtype), self.bias.to(dtype))


class AgeHead(nn.Module, ABC):
    """Contract of a head that predicts age: features to raw outputs to a distribution, and a loss.

    A head works in standardised units inside and speaks years outside. Before training, the mean and standard
    deviation of age over the training split go in through :meth:`set_age_statistics`; they travel in the
    state dict.

    Attributes:
        age_mean: Mean age in years, float64 scalar, 0 until set.
        age_std: Standard deviation of age in years, float64 scalar, 1 until set.
        fitted: Whether the statistics have been set.
        init_args: Constructor arguments but ``in_features``, as plain values, from which to rebuild the head.
    """

    age_mean: Tensor
    age_std: Tensor
    fitted: Tensor
    init_args: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("age_mean", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("age_std", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))
        self.init_args = {}

    def forward(self, features: Tensor) -> AgeDistribution:
        """Return the distribution of age for features ``(N, in_features)``."""
        return self.distribution(self.raw(features))

    @abstractmethod
    def raw(self, features: Tensor) -> Tensor:
        """Return the raw outputs for features ``(N, in_features)``, of a shape of the head's own."""

    @abstractmethod
    def distribution(self, raw: Tensor) -> AgeDistribution:
        """Return the distribution of age, in years, that raw outputs stand for."""

    @abstractmethod
    def loss(self, raw: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of labelled rows, and their count.

        Args:
            raw: Raw outputs.
            low: Lower ends of the labels in completed years, ``(N,)``, NaN where missing.
            high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        """

    def set_age_statistics(self, mean: float, std: float) -> None:
        """Set the mean and standard deviation of age over the training split, in years.

        Raises:
            ValueError: If the mean is not finite or the standard deviation is not positive and finite.
        """
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"age statistics must be finite with std > 0, got mean {mean} and std {std}")
        self.age_mean.fill_(mean)
        self.age_std.fill_(std)
        self.fitted.fill_(True)


class GaussianAgeHead(AgeHead):
    """Predict a normal distribution of age, trained by the KL divergence from the label.

    The row that predicts log-variance starts with weights N(0, 1e-4) and bias 0, so that training starts as
    plain regression (He et al., CVPR 2019, section 3.2). In standardised units it is softly bounded to (-10,
    6): sigma stays between 0.7 % and 20 times the spread of the training ages.

    Args:
        in_features: Length of the feature vector.
        form: Form of the loss on exact labels, see :class:`~mtmsa_lightning.losses.GaussianKLLoss`.
        beta: Exponent of beta-NLL, see there; 0 is off.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, 2)``, standardised mean and unbounded log-variance.

    Raises:
        ValueError: If form, beta or dropout is out of range.
    """

    def __init__(
        self,
        in_features: int,
        form: Literal["exact", "robust"] = "exact",
        beta: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.init_args = {"form": form, "beta": beta, "dropout": dropout}
        self.criterion = GaussianKLLoss(form, beta)
        self.dropout = nn.Dropout(dropout)
        self.linear = _Float32Linear(in_features, 2)
        nn.init.normal_(self.linear.weight[1], std=1e-4)
        nn.init.zeros_(self.linear.bias)

    def raw(self, features: Tensor) -> Tensor:
        """Return standardised mean and unbounded log-variance, ``(N, 2)``."""
        outputs: Tensor = self.linear(self.dropout(features))
        return outputs

    def distribution(self, raw: Tensor) -> GaussianAge:
        """Return the normal distribution in years."""
        mean, log_variance = self._moments(raw)
        return GaussianAge(mean * self.age_std + self.age_mean, (0.5 * log_variance).exp() * self.age_std)

    def loss(self, raw: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the float64 sum of divergences, in standardised units, and the count of labelled rows."""
        low, high = ((bound - self.age_mean) / self.age_std for bound in (low, high))
        total, count = self.criterion(*self._moments(raw), low, high, 0.5 / self.age_std)
        return total, count

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and bounded log-variance in standardised units and float64."""
        mean, log_variance = raw.double().unbind(dim=-1)
        return mean, soft_bound(log_variance, -10.0, 6.0)


class ClassHead(nn.Module):
    """Predict class logits, trained by cross-entropy.

    Args:
        in_features: Length of the feature vector.
        num_classes: Number of classes K, 2 or more.
        label_smoothing: See :class:`~mtmsa_lightning.losses.MaskedCrossEntropy`.
        class_weights: One weight per class, see there.
        dropout: Probability of dropping a feature in training.

    Attributes:
        init_args: Constructor arguments but ``in_features`` and ``num_classes``, as plain values.

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
        self.linear = _Float32Linear(in_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, ``(N, K)``."""
        logits: Tensor = self.linear(self.dropout(features))
        return logits

    def loss(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum over labelled rows and their (weighted) count; a ``target`` of -1 is missing."""
        total, count = self.criterion(logits, target)
        return total, count
