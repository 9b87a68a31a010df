"""The paper's age head: a Gaussian, trained by the KL divergence from the label.

Shi et al., "Multi-task multi-scale attention learning-based facial age estimation", IET Signal Processing
17(2), 2023.
"""

from typing import Literal

from torch import Tensor, nn

from mtmsa_lightning.losses.gaussian import GaussianKLLoss
from mtmsa_lightning.losses.special import soft_bound
from mtmsa_lightning.models.distributions import GaussianAge
from mtmsa_lightning.models.heads.age.base import LinearAgeHead


class GaussianAgeHead(LinearAgeHead):
    """Predict a normal distribution of age, trained by the KL divergence from the label.

    The weights of the log-variance are initialised with N(0, 1e-4) and its bias with 0, so that training
    starts as plain regression (He et al., CVPR 2019, section 3.2). In standardised units it is softly bounded
    to (-10, 6): sigma stays between 0.7 % and 20 times the standard deviation of the training ages.

    Args:
        in_features: Length of the feature vector.
        form: Form of the loss on exact labels, see :class:`~mtmsa_lightning.losses.gaussian.GaussianKLLoss`.
        beta: Exponent of beta-NLL, see ``GaussianKLLoss``; 0 is off.
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
        super().__init__(in_features, 2, dropout)
        self.init_args = {"form": form, "beta": beta, "dropout": dropout}
        self.criterion = GaussianKLLoss(form, beta)
        nn.init.normal_(self.linear.weight[1], std=1e-4)

    def distribution(self, raw: Tensor) -> GaussianAge:
        """Return the normal distribution in years."""
        mean, log_variance = self._moments(raw)
        return GaussianAge(mean * self.age_std + self.age_mean, (0.5 * log_variance).exp() * self.age_std)

    def per_sample(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the divergence of each row, in standardised units."""
        low, high = ((bound - self.age_mean) / self.age_std for bound in (low, high))
        return self.criterion.per_sample(*self._moments(raw), low, high, 0.5 / self.age_std)

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and bounded log-variance in standardised units and float64."""
        mean, log_variance = raw.double().unbind(dim=-1)
        return mean, soft_bound(log_variance, -10.0, 6.0)
