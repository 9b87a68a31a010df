"""Plain regression of age: squared error (L2) and absolute error (L1), with one spread for all faces."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mtmsa_lightning.losses.special import soft_bound
from mtmsa_lightning.models.distributions import AgeDistribution, GaussianAge, LaplaceAge
from mtmsa_lightning.models.heads.age.base import AgeHead, interval_residual
from mtmsa_lightning.models.heads.float32_linear import Float32Linear


class _RegressionAgeHead(AgeHead):
    """Predict age alone; a single learned scale makes a distribution of it.

    The network learns from the plain error, in standardised units. The scale is the one that makes the
    training residuals most likely under the distribution that the error belongs to: its likelihood is added
    to the loss with the prediction held constant, so that it changes nothing for the network. It is learned
    by the optimiser, travels in the state dict, and is softly bounded to between 0.7 % and 20 times the
    spread of the training ages.

    An age group costs nothing where the prediction lies between its ends, else the error to the nearer end;
    for the scale it is the likelihood of its interval.
    """

    def __init__(self, in_features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.init_args = {"dropout": dropout}
        self.dropout = nn.Dropout(dropout)
        self.linear = Float32Linear(in_features, 1)
        nn.init.zeros_(self.linear.bias)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def raw(self, features: Tensor) -> Tensor:
        """Return the standardised age, ``(N, 1)``."""
        outputs: Tensor = self.linear(self.dropout(features))
        return outputs

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
        """Return the distribution whose likelihood the error belongs to."""


class L2AgeHead(_RegressionAgeHead):
    """Predict age by least squares, ``d^2 / 2``; the distribution is normal.

    One standard deviation for all faces is learned from the training residuals, apart from the network.

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
    """Predict age by least absolute error, ``|d|``; the distribution is Laplace's.

    One mean absolute deviation for all faces is learned from the training residuals, apart from the network.

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
