"""The mean-variance loss.

Pan, Han, Shan & Chen, "Mean-Variance Loss for Deep Age Estimation from a Face", CVPR 2018.
"""

from torch import Tensor

from mtmsa_lightning.models.heads.age.base import interval_residual
from mtmsa_lightning.models.heads.age.categorical import LAST_YEAR, SoftmaxAgeHead, negative_log_mass


class MeanVarianceAgeHead(SoftmaxAgeHead):
    """Predict age by cross-entropy, with a penalty on the error of the mean and one on the variance.

    ``-log p_y + mean_weight (m - y)^2 / 2 + variance_weight v`` with ``m = sum p_k k`` and ``v = sum p_k (k -
    m)^2``, in years. For an age group of w years the first term is the likelihood of the group, the second is
    0 if m lies inside the group, and the third counts only the variance above ``(w^2 - 1) / 12``, that of
    equal probabilities.

    Args:
        in_features: Length of the feature vector.
        min_age: First year.
        max_age: Last year; labels outside the years are learned as the nearest one.
        mean_weight: Weight of the mean term; 0.2 in the paper.
        variance_weight: Weight of the variance term; 0.05 in the paper.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, K)``, logits.

    Raises:
        ValueError: If a weight is negative.
    """

    def __init__(
        self,
        in_features: int,
        min_age: int = 0,
        max_age: int = LAST_YEAR,
        mean_weight: float = 0.2,
        variance_weight: float = 0.05,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, min_age, max_age, dropout)
        if not (mean_weight >= 0 and variance_weight >= 0):
            raise ValueError(f"weights must not be negative, got {mean_weight} and {variance_weight}")
        self.init_args["mean_weight"] = self.mean_weight = mean_weight
        self.init_args["variance_weight"] = self.variance_weight = variance_weight

    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the three terms of each row, added."""
        age, members = self.distribution(raw), self.members(low, high)
        error = interval_residual(age.mean, low, high).square() / 2
        excess = (age.variance - (members.sum(-1).square() - 1) / 12).clamp(min=0)
        mass = negative_log_mass(age.log_pmf, members)
        return mass + self.mean_weight * error + self.variance_weight * excess
