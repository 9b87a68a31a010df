"""Consistent rank logits: CORAL.

Cao, Mirjalili & Raschka, "Rank consistent ordinal regression for neural networks with application to age
estimation", Pattern Recognition Letters 140, 2020.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtmsa_lightning.models.heads.age.categorical import LAST_YEAR, CategoricalAgeHead, log_pmf_of_cumulative

_LEAST_GAP = 1e-6
"""Minimum gap between two logits, above rounding, so that every year has a positive probability."""


class CoralAgeHead(CategoricalAgeHead):
    """Predict age by one binary task per year, "older than year k", with shared weights.

    ``P(age > k) = sigmoid(w x + b_k)``, and the loss is the sum of the binary cross-entropies of the K - 1
    tasks. The paper proves that the optimal biases decrease with k (theorem 1), but does not constrain them.
    Here they are a common bias and positive gaps, so that they always decrease and all years have a positive
    probability. For an age group the tasks of its own years, except the last, are skipped.

    Args:
        in_features: Length of the feature vector.
        min_age: First year.
        max_age: Last year; labels outside the years are learned as the nearest one.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, K - 1)``, logits of "older than year k".
    """

    def __init__(
        self, in_features: int, min_age: int = 0, max_age: int = LAST_YEAR, dropout: float = 0.0
    ) -> None:
        super().__init__(in_features, 1, min_age, max_age, dropout)
        self.raw_gaps = nn.Parameter(torch.zeros(max_age - min_age - 1))

    def raw(self, features: Tensor) -> Tensor:
        """Return the logits of all tasks, ``(N, K - 1)``, strictly decreasing."""
        gaps = F.softplus(self.raw_gaps.double()) + _LEAST_GAP
        steps = F.pad(gaps.cumsum(0), (1, 0))
        return super().raw(features) + steps.mean() - steps

    def log_pmf(self, raw: Tensor) -> Tensor:
        """Return the log-probabilities of the years."""
        return log_pmf_of_cumulative(raw)

    def start_from(self, logits: Tensor) -> None:
        """Set the common bias and the gaps."""
        self.linear.bias.fill_(logits.mean())
        gaps = logits[:-1] - logits[1:] - _LEAST_GAP
        self.raw_gaps.copy_(gaps.expm1().log())  # the inverse of softplus

    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the sum of the binary cross-entropies of the tasks that the label decides."""
        older, not_older = low[:, None] > self.years[:-1], high[:, None] <= self.years[:-1]
        terms = torch.where(older, F.logsigmoid(raw), torch.where(not_older, F.logsigmoid(-raw), 0.0))
        return -terms.sum(-1)
