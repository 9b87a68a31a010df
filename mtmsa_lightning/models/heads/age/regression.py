"""Regression of age with squared error (L2) or absolute error (L1), and one learned scale for all faces."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mtmsa_lightning.losses.special import soft_bound
from mtmsa_lightning.models.distributions import AgeDistribution, GaussianAge, LaplaceAge
from mtmsa_lightning.models.heads.age.base import LinearAgeHead, interval_residual


class _RegressionAgeHead(LinearAgeHead):
    """Predict age with one learned scale for all faces.

    The network is trained on the error in standardised units; for an age group it is the distance to the
    group. The scale is trained by maximum likelihood of the residuals, or of the group's interval, under the
    distribution that corresponds to the error, with the prediction detached. It is softly bounded to between
    0.7 % and 20 times the standard deviation of the training ages.
    """

    def __init__(self, in_features: int, dropout: float = 0.0) -> None:
        super().__init__(in_features, 1, dropout)
        self.init_args = {"dropout": dropout}
        self.log_scale = nn.Parameter(torch.zeros(()))

    def distribution(self, raw: Tensor) -> AgeDistribution:
        """Return the distribution around the predicted age, in years."""
        age = raw.double().squeeze(-1) * self.age_std + self.age_mean
        scale = soft_bound(self.log_scale.double(), -5.0, 3.0).exp() * self.age_std
        return self._around(age, scale.expand_as(age))

    def per_sample(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the error of each row in standardised units, plus the scale's negative log-likelihood."""
        age = raw.squeeze(-1) * self.age_std + self.age_mean
        spread = self.distribution(raw.detach())
        interval = spread.log_interval_prob(low - 0.5, high + 0.5)
        likelihood = torch.where(low == high, spread.log_prob(low), interval)
        return self._error(interval_residual(age, low, high) / self.age_std) - likelihood

    @staticmethod
    @abstractmethod
    def _error(difference: Tensor) -> Tensor:
        """Return the error of a difference in standardised units."""

    @staticmethod
    @abstractmethod
    def _around(age: Tensor, scale: Tensor) -> AgeDistribution:
        """Return the distribution that corresponds to the error."""


class L2AgeHead(_RegressionAgeHead):
    """Predict age by least squares, ``d^2 / 2``, with a normal distribution.

    One standard deviation for all faces is learned from the training residuals.

    Args:
        in_features: Length of the feature vector.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, 1)``, the standardised age.
    """

    @staticmethod
    def _error(difference: Tensor) -> Tensor:
        return difference.square() / 2

    @staticmethod
    def _around(age: Tensor, scale: Tensor) -> GaussianAge:
        return GaussianAge(age, scale)


class L1AgeHead(_RegressionAgeHead):
    """Predict age by least absolute error, ``|d|``, with a Laplace distribution.

    One mean absolute deviation for all faces is learned from the training residuals.

    Args:
        in_features: Length of the feature vector.
        dropout: Probability of dropping a feature in training.

    Shape:
        Features ``(N, in_features)``; raw outputs ``(N, 1)``, the standardised age.
    """

    @staticmethod
    def _error(difference: Tensor) -> Tensor:
        return difference.abs()

    @staticmethod
    def _around(age: Tensor, scale: Tensor) -> LaplaceAge:
        return LaplaceAge(age, scale)
