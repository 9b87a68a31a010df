"""Deep label distribution learning: DLDL.

Gao, Xing, Xie, Wu & Geng, "Deep Label Distribution Learning with Label Ambiguity", IEEE Transactions on Image
Processing 26(6), 2017.
"""

import torch
from torch import Tensor

from mtmsa_lightning.models.heads.age.categorical import LAST_YEAR, SoftmaxAgeHead

SIGMA = 2.0
"""Default standard deviation of the label distribution, in years."""


class DLDLAgeHead(SoftmaxAgeHead):
    """Predict age by the KL divergence from a label distribution: ``sum q_k log(q_k / p_k)``.

    The label distribution of an exact age y is a normalised Gaussian at the years, ``q_k`` proportional to
    ``exp(-(k - y)^2 / (2 sigma^2))``; for sigma towards 0 the loss is cross-entropy. The label distribution
    of an age group is the mean of those of its years. The minimum of the loss is 0.

    Args:
        in_features: Length of the feature vector.
        min_age: First year.
        max_age: Last year; labels outside the years are learned as the nearest one.
        sigma: Standard deviation of the label distribution, in years.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, K)``, logits.

    Raises:
        ValueError: If sigma is not positive.
    """

    blur: Tensor

    def __init__(
        self,
        in_features: int,
        min_age: int = 0,
        max_age: int = LAST_YEAR,
        sigma: float = SIGMA,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, min_age, max_age, dropout)
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.init_args["sigma"] = sigma
        distances = self.years - self.years[:, None]
        blur = (-distances.square() / (2 * sigma**2)).softmax(-1)  # row: a year; column: q at each year
        self.register_buffer("blur", blur, persistent=False)

    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the divergence of each prediction from its label distribution."""
        members = self.members(low, high).double()
        label = members @ self.blur / members.sum(-1, keepdim=True)
        return (torch.xlogy(label, label) - label * self.log_pmf(raw)).sum(-1)
