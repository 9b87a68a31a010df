"""Joint learning of label distribution and expectation: DLDL-v2.

Gao, Zhou, Wu & Geng, "Age Estimation Using Expectation of Label Distribution Learning", IJCAI 2018.
"""

from torch import Tensor

from mtmsa_lightning.models.heads.age.base import interval_residual
from mtmsa_lightning.models.heads.age.categorical import LAST_YEAR
from mtmsa_lightning.models.heads.age.dldl import SIGMA, DLDLAgeHead


class DLDLv2AgeHead(DLDLAgeHead):
    """Predict age as :class:`DLDLAgeHead`, with the absolute error of the expected age added to the loss.

    ``KL + weight |sum p_k k - y|``, in years. For an age group the error is the distance to the group, 0
    inside it.

    Args:
        in_features: Length of the feature vector.
        min_age: First year.
        max_age: Last year; labels outside the years are learned as the nearest one.
        sigma: Standard deviation of the label distribution, in years.
        weight: Weight of the absolute error.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, K)``, logits.

    Raises:
        ValueError: If sigma is not positive or the weight is negative.
    """

    def __init__(
        self,
        in_features: int,
        min_age: int = 0,
        max_age: int = LAST_YEAR,
        sigma: float = SIGMA,
        weight: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, min_age, max_age, sigma, dropout)
        if not weight >= 0:
            raise ValueError(f"the weight must not be negative, got {weight}")
        self.init_args["weight"] = self.weight = weight

    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the divergence of each prediction plus its weighted absolute error."""
        error = interval_residual(self.distribution(raw).mean, low, high).abs()
        return super().year_loss(raw, low, high) + self.weight * error
