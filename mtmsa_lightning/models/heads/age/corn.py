"""Conditional ordinal regression: CORN.

Shi, Cao & Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based on Conditional
Probabilities", arXiv 2111.08851, 2021; Pattern Analysis and Applications 26, 2023.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtmsa_lightning.models.heads.age.categorical import LAST_YEAR, CategoricalAgeHead, negative_log_mass


class CornAgeHead(CategoricalAgeHead):
    """Predict age by one conditional binary task per year: "older than year k, given at least k".

    ``P(age > k | age >= k) = sigmoid(z_k)``; each task has its own weights and is trained on the faces that
    meet its condition. The binary cross-entropies of these tasks sum to the negative log-likelihood of the
    year, ``-log p_y`` with ``p_k = P(age > 0) P(age > 1 | age >= 1) ... P(age <= k | age >= k)``. The paper
    divides it by the number of tasks; here it is per face. For an age group it is the likelihood of the
    group, ``-log sum p_y`` over its years.

    Args:
        in_features: Length of the feature vector.
        min_age: First year.
        max_age: Last year; labels outside the years are learned as the nearest one.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, K - 1)``, logits of the conditional tasks.
    """

    def __init__(
        self, in_features: int, min_age: int = 0, max_age: int = LAST_YEAR, dropout: float = 0.0
    ) -> None:
        super().__init__(in_features, max_age - min_age, min_age, max_age, dropout)

    def log_pmf(self, raw: Tensor) -> Tensor:
        """Return the log-probabilities of the years."""
        passed = F.pad(F.logsigmoid(raw).cumsum(-1), (1, 0))
        return passed + F.pad(F.logsigmoid(-raw), (0, 1))

    def start_from(self, logits: Tensor) -> None:
        """Set the biases to the conditional logits."""
        older = F.logsigmoid(logits)
        conditional = older - F.pad(older[:-1], (1, 0))
        self.linear.bias.copy_(conditional - torch.log(-torch.expm1(conditional)))

    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the negative log-probability of each label."""
        return negative_log_mass(self.log_pmf(raw), self.members(low, high))
