"""Base classes of heads that predict a probability for each year of age."""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from mtmsa_lightning.models.distributions import CategoricalAge
from mtmsa_lightning.models.heads.age.base import LinearAgeHead

LAST_YEAR = 116
"""Default last year: the oldest of MORPH, Adience and UTKFace."""


class CategoricalAgeHead(LinearAgeHead):
    """Predict a probability for each of the K completed years from ``min_age`` to ``max_age``.

    Labels outside these years are learned as the nearest year, so that a head can be evaluated on other
    datasets. The biases of a new head are those of a
    logistic distribution with the mean and standard deviation of the training ages. ValueError if not ``0 <=
    min_age < max_age``.
    """

    years: Tensor

    def __init__(self, in_features: int, outputs: int, min_age: int, max_age: int, dropout: float) -> None:
        if not 0 <= min_age < max_age:
            raise ValueError(f"ages need 0 <= min_age < max_age, got {min_age} and {max_age}")
        super().__init__(in_features, outputs, dropout)
        self.init_args = {"min_age": min_age, "max_age": max_age, "dropout": dropout}
        self.min_age, self.max_age = min_age, max_age
        years = torch.arange(min_age, max_age + 1, dtype=torch.float64)
        self.register_buffer("years", years, persistent=False)

    @property
    def year_range(self) -> tuple[int, int]:
        """First and last year; labels outside are learned as the nearest one."""
        return self.min_age, self.max_age

    def distribution(self, raw: Tensor) -> CategoricalAge:
        """Return the distribution over the years."""
        return CategoricalAge(self.log_pmf(raw.double()), self.min_age)

    @abstractmethod
    def log_pmf(self, raw: Tensor) -> Tensor:
        """Return the log-probability of each year, ``(N, K)``, for raw outputs in float64."""

    def set_age_statistics(self, mean: float, std: float) -> None:
        """Set the mean and standard deviation of the training ages, and initialise the biases with them."""
        super().set_age_statistics(mean, std)
        steepness = math.pi / (math.sqrt(3) * std)  # of the logistic distribution with that deviation
        with torch.no_grad():
            self.start_from((mean - self.years[:-1] - 0.5) * steepness)

    @abstractmethod
    def start_from(self, logits: Tensor) -> None:
        """Set the biases so that P(age > year k) = sigmoid(logits_k), for all years except the last."""

    def per_sample(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the loss of each row, with its label clamped to the years of the head."""
        low, high = (bound.round().clamp(self.min_age, self.max_age) for bound in (low, high))
        return self.year_loss(raw, low, high)

    @abstractmethod
    def year_loss(self, raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the loss of each row, ``(N,)``, for labels within the years of the head."""

    def members(self, low: Tensor, high: Tensor) -> Tensor:
        """Return which years each label covers, bool ``(N, K)``: one for an exact age, more for a group."""
        return (self.years >= low[:, None]) & (self.years <= high[:, None])


class SoftmaxAgeHead(CategoricalAgeHead):
    """Predict the years as classes of a softmax; raw outputs are K logits. Arguments as for the base."""

    def __init__(
        self, in_features: int, min_age: int = 0, max_age: int = LAST_YEAR, dropout: float = 0.0
    ) -> None:
        super().__init__(in_features, max_age - min_age + 1, min_age, max_age, dropout)

    def log_pmf(self, raw: Tensor) -> Tensor:
        """Return the log-softmax."""
        return raw.log_softmax(-1)

    def start_from(self, logits: Tensor) -> None:
        """Set the biases to the log-probabilities."""
        self.linear.bias.copy_(log_pmf_of_cumulative(logits))


def log_pmf_of_cumulative(logits: Tensor) -> Tensor:
    """Return log-probabilities of K years from decreasing logits of P(age > year k), k = 0 ... K - 2.

    ``sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))``: nothing cancels or underflows.
    """
    above = F.pad(F.logsigmoid(logits), (1, 0))  # older than the year before
    below = F.pad(F.logsigmoid(-logits), (0, 1))  # not older than this year
    gaps = logits[..., :-1] - logits[..., 1:]
    return above + below + F.pad(torch.log(-torch.expm1(-gaps)), (1, 1))


def negative_log_mass(log_pmf: Tensor, members: Tensor) -> Tensor:
    """Return the negative log-probability of the years of each label, ``(N,)``."""
    return -torch.where(members, log_pmf, -math.inf).logsumexp(-1)
