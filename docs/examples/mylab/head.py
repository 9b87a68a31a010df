"""An age head: a normal distribution of age, by two layers."""

import torch
from torch import Tensor, nn

from mtmsa_lightning import AgeHead, GaussianAge


class MLPHead(AgeHead):
    """Predict a normal distribution of age by two layers.

    Args:
        in_features: Features of the trunk.
        width: Width of the hidden layer.
    """

    def __init__(self, in_features: int, width: int = 64) -> None:
        super().__init__()
        self.init_args = {"width": width}  # by which a checkpoint builds the head again
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, 2))

    def raw(self, features: Tensor) -> Tensor:
        """Return mean and log standard deviation in standardised units, shape (N, 2)."""
        return self.layers(features)

    def distribution(self, raw: Tensor) -> GaussianAge:
        """Return the distribution in years."""
        mean, log_std = raw.double().unbind(dim=-1)
        return GaussianAge(mean * self.age_std + self.age_mean, log_std.clamp(-5, 3).exp() * self.age_std)

    def per_sample(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the negative log-likelihood of each face: of its age, or of its age group."""
        age = self.distribution(raw)
        in_group = age.log_interval_prob(low - 0.5, high + 0.5)
        return -torch.where(low == high, age.log_prob(low), in_group)
