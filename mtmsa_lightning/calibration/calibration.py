"""Calibration of a network's predictions, fitted after training on held-out faces."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.models.distributions import AgeDistribution, CalibratedAge
from mtmsa_lightning.models.face_output import FaceOutput
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL

LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
"""Nominal levels of the conformal intervals."""

FACTOR_RANGE = (0.05, 20.0)
"""Range in which scales and temperatures without a closed form are searched."""


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration, the faces that it was fitted on, and metrics before and after, as plain values.

    Attributes:
        sigma_scale: Factor of the standard deviation of age, by maximum likelihood.
        temperatures: Divisor of the logits by task, ``gender`` and ``race``, by maximum likelihood.
        quantiles: Conformal quantile by level, in uncalibrated standard deviations; infinite if there are too
            few faces for the level. ``mean +- quantile * sigma`` is the interval of split conformal
            prediction (Vovk et al., "Algorithmic Learning in a Random World", 2005) with normalised scores
            (Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 113, 2018, 5.2).
        max_width: Width of the 90 % interval in years above which a face is unsure; None: never.
        min_group_prob: Probability of the most probable age group below which a face is unsure; None: never.
        fitted_on: Origin of the calibration faces: ``dataset``, ``protocol``, ``fold``, ``split_seed``,
            ``part``, its ``fingerprint``, the numbers of ``faces`` and of ``subjects``, the ``unit`` of the
            latter (``subjects``, or ``different images`` without known subjects), and whether this part also
            ``chose_checkpoint``.
        metrics: Calibration metrics before and after, by part.
        policies: Decisions at legal ages, in increasing order of these; absent in older checkpoints.
    """

    sigma_scale: float = 1.0
    temperatures: dict[str, float] = field(default_factory=dict)
    quantiles: dict[float, float] = field(default_factory=dict)
    max_width: float | None = None
    min_group_prob: float | None = None
    fitted_on: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    policies: tuple[AgePolicy, ...] = ()

    def age(self, raw: AgeDistribution) -> AgeDistribution:
        """Return the distribution with calibrated sigma and conformal intervals at ``LEVELS``.

        An interval is infinite if there were too few calibration faces for its level.
        """
        age = raw.scaled(self.sigma_scale)
        radii = {level: quantile * raw.std for level, quantile in self.quantiles.items()}
        ends = {level: (raw.mean - radius, raw.mean + radius) for level, radius in radii.items()}
        return CalibratedAge(age, ends) if ends else age

    def logits(self, task: str, raw: Tensor) -> Tensor:
        """Return the logits of a task divided by its temperature."""
        return raw / self.temperatures.get(task, 1.0)

    def output(self, raw: FaceOutput) -> FaceOutput:
        """Return the calibrated predictions of all heads; ``age_raw`` is not changed."""
        return raw._replace(
            age=None if raw.age is None else self.age(raw.age),
            gender=None if raw.gender is None else self.logits("gender", raw.gender),
            race=None if raw.race is None else self.logits("race", raw.race),
        )

    @property
    def abstains(self) -> bool:
        """Whether a threshold is set."""
        return self.max_width is not None or self.min_group_prob is not None

    def unsure(self, age: AgeDistribution, groups: Sequence[tuple[int, int]] = ()) -> Tensor:
        """Return which faces of a calibrated distribution (see :meth:`age`) are unsure, bool ``(N,)``.

        ``groups`` are the age groups of the checkpoint, by default Adience's.
        """
        unsure = torch.zeros_like(age.mean, dtype=torch.bool)
        if self.max_width is not None:
            low, high = age.interval(INTERVAL_LEVEL)
            unsure |= high - low > self.max_width
        if self.min_group_prob is not None:
            unsure |= age.group_probs(age_group_edges(groups)).amax(dim=1) < self.min_group_prob
        return unsure

    @property
    def factors(self) -> dict[str, float]:
        """The fitted factors by name: ``sigma`` and ``<task> temperature``."""
        sigma = {"sigma": self.sigma_scale} if self.quantiles else {}
        return sigma | {f"{task} temperature": value for task, value in self.temperatures.items()}

    @property
    def at_limit(self) -> list[str]:
        """Names of the factors at an end of ``FACTOR_RANGE``: a better value may lie beyond."""
        factors = self.factors.items()
        return [name for name, value in factors if np.isclose(value, FACTOR_RANGE, rtol=1e-6, atol=0).any()]

    def describe_limit(self) -> str:
        """Return a warning about factors at the limit of the search, or an empty text."""
        if not self.at_limit:
            return ""
        return (
            f"at the limit of the search ({FACTOR_RANGE[0]:g} to {FACTOR_RANGE[1]:g}): "
            f"{', '.join(self.at_limit)}. The likelihood has no maximum within it: the calibration faces are "
            "too few, or the network fits all or none of them"
        )

    def describe(self) -> str:
        """Return the factors, thresholds and calibration faces in one line."""
        where = _describe_faces(self.fitted_on) if self.fitted_on else "faces that are not recorded"
        factors = [
            f"{name}{' x' if name == 'sigma' else ''} {value:.3f}"
            f"{' (at the limit of the search)' if name in self.at_limit else ''}"
            for name, value in self.factors.items()
        ]
        limits = [f"width over {pluralize(self.max_width, 'year')}"] if self.max_width is not None else []
        limits += [f"group below {self.min_group_prob:g}"] if self.min_group_prob is not None else []
        unsure = f"; unsure: {' or '.join(limits)}" if limits else ""
        decisions = "".join(f"; {policy.describe()}" for policy in self.policies)
        return f"calibrated on {where}: {', '.join(factors)}{unsure}{decisions}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for checkpoints and JSON; an infinite quantile becomes None."""
        finite = {str(p): None if math.isinf(q) else q for p, q in self.quantiles.items()}
        policies = [policy.to_dict() for policy in self.policies]
        return asdict(self) | {
            "quantiles": finite, "at_search_limit": self.at_limit, "policies": policies,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a calibration from the values of :meth:`to_dict`."""
        quantiles = {float(p): math.inf if q is None else float(q) for p, q in values["quantiles"].items()}
        fields = {name: value for name, value in values.items() if name != "at_search_limit"}
        policies = tuple(AgePolicy.from_dict(each) for each in values.get("policies", ()))
        return cls(**{**fields, "quantiles": quantiles, "policies": policies})


def _describe_faces(on: Mapping[str, Any]) -> str:
    faces = f"{pluralize(on['faces'], 'face')}, {pluralize(on['subjects'], on['unit'].removesuffix('s'))}"
    chose = ", which also chose the checkpoint" if on["chose_checkpoint"] else ""
    return f"the {on['part']} part of {on['dataset']} ({on['protocol']}, fold {on['fold']}; {faces}){chose}"
