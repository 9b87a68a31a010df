"""Decisions whether a face is of a legal age: yes, no or unsure."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.models.distributions import AgeDistribution
from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL, MAX_FPR, NEAR_YEARS

DECISIONS = ("no", "unsure", "yes")
"""Names of the codes of :meth:`AgePolicy.decide`, from 0."""

Rule = Literal["estimate", "probability"]
"""What a decision compares with its thresholds: the estimated age, or P(age >= legal age)."""

RULES: tuple[Rule, ...] = ("estimate", "probability")


@dataclass(frozen=True)
class AgePolicy:
    """A decision whether a face is of a legal age, with thresholds that bound both errors.

    ``yes`` at or above ``yes_from``, ``no`` below ``no_below``, ``unsure`` between. Both thresholds are
    fitted on calibration faces: at most ``max_fpr`` of the minors of up to ``near_years`` years below the
    legal age get a yes, and at most ``max_fpr`` of the adults of less than ``near_years`` years above it get
    a no.

    Ages are completed years: the label 17 means [17, 18). The network estimates that number, so the estimate
    17.5 is as near to 17 as to 18, and P(age >= 18) is the probability above 17.5.

    Attributes:
        legal_age: The age in completed years from which a person counts as an adult.
        max_fpr: Largest accepted rate of each error.
        confidence: Probability, over calibration sets, with which the rates hold; None: on average over them.
        by: What is compared with the thresholds, see :data:`Rule`.
        near_years: Years below and above the legal age whose faces the rates refer to.
        yes_from: The smallest age in years, or probability, with a yes; None: there is no yes.
        no_below: The age or probability below which the decision is no; None: there is no no.
        metrics: Rates by part, see :func:`~mtmsa_lightning.calibration.policy_fitting.policy_rates`.
    """

    legal_age: int
    max_fpr: float = MAX_FPR
    confidence: float | None = CONFIDENCE_LEVEL
    by: Rule = "estimate"
    near_years: int = NEAR_YEARS
    yes_from: float | None = None
    no_below: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the decision in tables, such as ``over_18``."""
        return f"over_{self.legal_age}"

    @property
    def minor_ages(self) -> tuple[int, int]:
        """First and last age of the minors that the bound refers to."""
        return max(0, self.legal_age - self.near_years), self.legal_age - 1

    @property
    def adult_ages(self) -> tuple[int, int]:
        """First and last age of the adults that the bound refers to."""
        return self.legal_age, self.legal_age + self.near_years - 1

    def score(self, age: AgeDistribution) -> Tensor:
        """Return what is compared with the thresholds, ``(N,)``."""
        return age.mean if self.by == "estimate" else adult_probability(age, self.legal_age)

    def decide(self, age: AgeDistribution) -> Tensor:
        """Return the decisions on a calibrated distribution as indices of ``DECISIONS``, int64 ``(N,)``."""
        score = self.score(age)
        lower, upper = self.no_below, self.yes_from
        at_least = torch.ones_like(score, dtype=torch.int64) if lower is None else (score >= lower).long()
        return at_least if upper is None else at_least + (score >= upper).long()

    def describe(self) -> str:
        """Return the thresholds in one line."""
        yes = "never yes" if self.yes_from is None else f"yes from {self._threshold(self.yes_from)}"
        no = "never no" if self.no_below is None else f"no below {self._threshold(self.no_below)}"
        return f"{self.legal_age} or older: {yes}, {no}, else unsure"

    def promise(self) -> str:
        """Return what the thresholds were fitted for, in one sentence."""
        (first, last), (low, high) = self.minor_ages, self.adult_ages
        sure = "on average" if self.confidence is None else f"with {100 * self.confidence:g} % confidence"
        return (
            f"at most {100 * self.max_fpr:g} % of people aged {first} to {last} get a yes and at most as "
            f"many of those aged {low} to {high} a no, {sure}, if they are like those that it was fitted on"
        )

    def _threshold(self, value: float) -> str:
        if self.by == "probability":
            return f"P(age >= {self.legal_age}) = {value:g}"
        return f"an estimate of {pluralize(value, 'year')}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for checkpoints and JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a policy from the values of :meth:`to_dict`."""
        return cls(**values)


def adult_probability(age: AgeDistribution, legal_age: int) -> Tensor:
    """Return P(age >= legal age) in completed years, ``(N,)``: the probability above half a year less."""
    return age.interval_prob(legal_age - 0.5, math.inf)
