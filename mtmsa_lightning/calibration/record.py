"""Calibrated uncertainty: fitted after training on faces that were held out, applied to what a network says.

Three things, each fitted on its own:

- a scale of sigma and a temperature of each class head, by maximum likelihood over the faces;
- conformal intervals of age, ``mean +- quantile * sigma``, by the scores ``|age - mean| / sigma`` (split
  conformal prediction: Vovk et al., "Algorithmic Learning in a Random World", 2005; normalised scores: Lei et
  al., "Distribution-Free Predictive Inference for Regression", JASA 113, 2018, section 5.2). They cover a new
  subject's face with at least the stated probability at any number of subjects and however wrong sigma is, as
  long as the new subject and those fitted on are exchangeable. Mean and sigma are those of the bare network,
  so that nothing in a score was fitted on the same faces;
- thresholds beyond which a face is declared unsure, which are chosen, not fitted.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from mtmsa_lightning._utils.text import counted
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import AgeDistribution, CalibratedAge, GaussianAge

LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
"""Levels of the conformal intervals: the probability with which each is to cover."""

INTERVAL_LEVEL = 0.9
"""Level of the interval whose width decides whether a face is unsure."""

FACTOR_RANGE = (0.05, 20.0)
"""Where scales and temperatures without a closed form are searched."""

_NOT_FINITE = (
    f"no {{}} between {FACTOR_RANGE[0]:g} and {FACTOR_RANGE[1]:g} has a finite loss on these faces: "
    "the outputs for some of them are not finite, or give their label no probability at all"
)
_GRID = 61
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Calibration:
    """What was fitted, on which faces, and what it changed; plain values throughout.

    Attributes:
        sigma_scale: Factor of the standard deviation of age.
        temperatures: Divisor of the logits by task, ``gender`` and ``race``.
        quantiles: Conformal quantile by level, in uncalibrated standard deviations; infinite where the faces
            fitted on are too few for the level.
        max_width: Width of the 90 % interval in years above which a face is unsure; None: never.
        min_group_prob: Probability of the likeliest age group below which a face is unsure; None: never.
        fitted_on: Where the faces fitted on come from: ``dataset``, ``protocol``, ``fold``, ``split_seed``,
            ``part``, its ``fingerprint``, the numbers of ``faces`` and of ``subjects``, what ``unit`` the
            latter are (``subjects``, or ``different images`` where none is known), and whether this part
            ``chose_checkpoint`` as well.
        figures: Calibration figures before and after.
    """

    sigma_scale: float = 1.0
    temperatures: dict[str, float] = field(default_factory=dict)
    quantiles: dict[float, float] = field(default_factory=dict)
    max_width: float | None = None
    min_group_prob: float | None = None
    fitted_on: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def age(self, raw: AgeDistribution) -> AgeDistribution:
        """Return what a network says of age with calibrated sigma, and conformal intervals at ``LEVELS``.

        An interval is infinite where the faces fitted on are too few for its level.
        """
        age = raw.widened(self.sigma_scale)
        radii = {level: quantile * raw.std for level, quantile in self.quantiles.items()}
        ends = {level: (raw.mean - radius, raw.mean + radius) for level, radius in radii.items()}
        return CalibratedAge(age, ends) if ends else age

    def logits(self, task: str, raw: Tensor) -> Tensor:
        """Return the calibrated logits of a task: divided by its temperature, the order is the same."""
        return raw / self.temperatures.get(task, 1.0)

    @property
    def abstains(self) -> bool:
        """Whether a threshold is set, so that faces can be unsure."""
        return self.max_width is not None or self.min_group_prob is not None

    def unsure(self, age: AgeDistribution) -> Tensor:
        """Return which faces, bool ``(N,)``, are unsure by a calibrated distribution (see :meth:`age`)."""
        unsure = torch.zeros_like(age.mean, dtype=torch.bool)
        if self.max_width is not None:
            low, high = age.interval(INTERVAL_LEVEL)
            unsure |= high - low > self.max_width
        if self.min_group_prob is not None:
            unsure |= age.group_probs(AGE_GROUP_EDGES).amax(dim=1) < self.min_group_prob
        return unsure

    @property
    def factors(self) -> dict[str, float]:
        """The fitted factors by name: ``sigma`` and ``<task> temperature``."""
        sigma = {"sigma": self.sigma_scale} if self.quantiles else {}
        return sigma | {f"{task} temperature": value for task, value in self.temperatures.items()}

    @property
    def at_limit(self) -> list[str]:
        """Names of the factors at an end of ``FACTOR_RANGE``: a better value may lie beyond."""
        ends = FACTOR_RANGE
        return [
            name
            for name, value in self.factors.items()
            if any(math.isclose(value, end, rel_tol=1e-6) for end in ends)
        ]

    def describe_limit(self) -> str:
        """Return a warning of the factors at the limit of the search; empty without one."""
        if not self.at_limit:
            return ""
        return (
            f"at the limit of the search ({FACTOR_RANGE[0]:g} to {FACTOR_RANGE[1]:g}): "
            f"{', '.join(self.at_limit)}. The likelihood has no best value there: the faces fitted on are "
            "too few, or the network fits all or none of them"
        )

    def describe(self) -> str:
        """Say in one line what was fitted on what."""
        where = _describe_faces(self.fitted_on) if self.fitted_on else "faces that are not recorded"
        factors = [
            f"{name}{' x' if name == 'sigma' else ''} {value:.3f}"
            f"{' (at the limit of the search)' if name in self.at_limit else ''}"
            for name, value in self.factors.items()
        ]
        limits = [f"width over {counted(self.max_width, 'year')}"] if self.max_width is not None else []
        limits += [f"group below {self.min_group_prob:g}"] if self.min_group_prob is not None else []
        unsure = f"; unsure: {' or '.join(limits)}" if limits else ""
        return f"calibrated on {where}: {', '.join(factors)}{unsure}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that checkpoints and JSON hold; an infinite quantile is None."""
        finite = {str(p): None if math.isinf(q) else q for p, q in self.quantiles.items()}
        return asdict(self) | {"quantiles": finite, "at_search_limit": self.at_limit}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` returned."""
        quantiles = {float(p): math.inf if q is None else float(q) for p, q in values["quantiles"].items()}
        fields = {name: value for name, value in values.items() if name != "at_search_limit"}
        return cls(**{**fields, "quantiles": quantiles})


def _describe_faces(on: Mapping[str, Any]) -> str:
    faces = f"{counted(on['faces'], 'face')}, {counted(on['subjects'], on['unit'].removesuffix('s'))}"
    chose = ", which also chose the checkpoint" if on["chose_checkpoint"] else ""
    return f"the {on['part']} part of {on['dataset']} ({on['protocol']}, fold {on['fold']}; {faces}){chose}"


def fit_calibration(
    age: AgeDistribution | None,
    low: Tensor,
    high: Tensor,
    classes: Mapping[str, tuple[Tensor, Tensor]],
    units: Tensor,
) -> Calibration:
    """Fit everything that the labels allow; a head without labels stays as it is.

    Args:
        age: What the network, uncalibrated, says of the age of N faces; None without an age head.
        low: Lower ends of the age labels in completed years, ``(N,)``, NaN where missing.
        high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        classes: Task to logits ``(N, classes)`` and class indices ``(N,)``, -1 where missing.
        units: Subject of each face as a number, ``(N,)``.

    Returns:
        The calibration, without thresholds, origin and figures.

    Raises:
        DataError: If what the network says of a labelled face is not finite, or no factor has a finite loss.
    """
    known = {task: pair for task, pair in classes.items() if (pair[1] >= 0).any()}
    temperatures = {task: fit_temperature(*pair) for task, pair in known.items()}
    labelled = ~(low + high).isnan()
    if age is None or not labelled.any():
        return Calibration(temperatures=temperatures)
    scores = conformal_scores(age, low, high)[labelled]
    if bad := int((~scores.isfinite()).sum()):
        raise DataError(
            f"the predicted age of {bad} of {counted(len(scores), 'labelled face')} is not finite: the "
            "weights are damaged or have diverged, and cannot be calibrated"
        )
    scale = fit_sigma_scale(age, low, high)
    quantiles = {level: conformal_quantile(scores, units[labelled], level) for level in LEVELS}
    return Calibration(scale, temperatures, quantiles)


def fit_sigma_scale(age: AgeDistribution, low: Tensor, high: Tensor) -> float:
    """Return the factor of sigma that makes the labels likeliest.

    For normal distributions and exact ages ``scale^2 = mean((age - mean)^2 / sigma^2)`` (Laves et al.,
    "Well-Calibrated Regression Uncertainty in Medical Imaging with Deep Learning", MIDL 2020). Otherwise the
    likelihood of ages (density) and groups (mass from half a year below to half a year above) is searched
    within ``FACTOR_RANGE``. A label outside the years of a categorical head counts as the nearest of them, as
    in the head's loss.

    Args:
        age: Uncalibrated distributions of N faces.
        low: Lower ends of the labels, ``(N,)``, NaN where missing; at least one label is known.
        high: Upper ends, ``(N,)``.

    Raises:
        DataError: If the likelihood is finite for no scale.
    """
    exact, group = low == high, low < high
    if isinstance(age, GaussianAge) and not group.any():
        z = ((low - age.mean) / age.std)[exact]
        scale = float(z.square().mean().sqrt())
        if not math.isfinite(scale):
            raise DataError(_NOT_FINITE.format("scale of sigma"))
        return min(max(scale, FACTOR_RANGE[0]), FACTOR_RANGE[1])
    low, high = age.nearest(low), age.nearest(high)
    # Rows of the other kind get harmless labels.
    point = torch.where(exact, low, age.mean)
    ends = torch.where(group, low, age.mean) - 0.5, torch.where(group, high, age.mean) + 0.5

    def loss(scale: float) -> float:
        scaled = age.widened(scale)
        log_likelihood = torch.where(
            group, scaled.log_interval_prob(*ends), torch.where(exact, scaled.log_prob(point), 0.0)
        )
        return -float(log_likelihood.sum())

    return minimise_factor(loss, "scale of sigma")


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """Return the temperature that makes the classes likeliest, within ``FACTOR_RANGE``.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.

    Args:
        logits: ``(N, classes)``.
        target: Class indices ``(N,)``, -1 where missing; at least one is known.

    Raises:
        DataError: If the cross-entropy is finite for no temperature.
    """
    logits, target = logits[target >= 0].double(), target[target >= 0]
    return minimise_factor(
        lambda temperature: float(F.cross_entropy(logits / temperature, target)), "temperature"
    )


def minimise_factor(loss: Callable[[float], float], name: str) -> float:
    """Return the factor within ``FACTOR_RANGE`` at which a loss is least, to about eight digits.

    The best of a logarithmic grid, then golden-section search between its neighbours: no gradient is needed,
    and a loss that falls all the way ends at the range's end.

    Args:
        loss: The loss of a factor; one that is not finite is never the least.
        name: What messages call the factor.

    Raises:
        DataError: If no factor of the grid has a finite loss.
    """

    def at(position: float) -> float:
        value = loss(math.exp(position))
        return value if math.isfinite(value) else math.inf

    first, last = map(math.log, FACTOR_RANGE)
    step = (last - first) / (_GRID - 1)
    grid = [first + step * number for number in range(_GRID)]
    least, best = min((at(position), position) for position in grid)
    if math.isinf(least):
        raise DataError(_NOT_FINITE.format(name))
    low, high = max(best - step, first), min(best + step, last)
    while high - low > 1e-9:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if at(left) <= at(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def conformal_scores(age: AgeDistribution, low: Tensor, high: Tensor) -> Tensor:
    """Return the number of standard deviations by which the interval must reach out to cover each label.

    ``|age - mean| / std``, and for a group, which must be contained whole, ``max(|low - mean|, |high - mean|)
    / std``; ``(N,)``, NaN where the label is missing.
    """
    return torch.maximum((low - age.mean).abs(), (high - age.mean).abs()) / age.std


def conformal_quantile(scores: Tensor, units: Tensor, level: float) -> float:
    """Return the score that a new subject's face does not exceed with probability ``level`` or more.

    Faces of one subject are not exchangeable with a new subject's; subjects are. So each of the K subjects
    weighs 1 / (K + 1), shared among its faces, the new one weighs as much at infinity, and the quantile is
    the least score up to which the weights add up to ``level`` (hierarchical conformal prediction: Lee,
    Barber, Willett, "Distribution-free inference with hierarchical data", 2023). It holds for a face drawn
    from a new subject's, as does one face drawn of each subject (subsampling once: Dunn, Wasserman, Ramdas,
    "Distribution-Free Prediction Sets for Two-Layer Hierarchical Models", JASA 118, 2023), but has no draw in
    it and uses every face. With one face each it is the ``ceil((K + 1) level)``-th smallest score.

    Args:
        scores: Scores of N faces, ``(N,)``.
        units: Subject of each face as a number, ``(N,)``.
        level: Probability, between 0 and 1.

    Returns:
        The quantile; infinite if K is too small for the level, below ``level / (1 - level)``.
    """
    subjects, subject, faces = torch.unique(units, return_inverse=True, return_counts=True)
    order = scores.argsort()
    reached = (1 / faces.double())[subject][order].cumsum(0)
    enough = reached >= level * (len(subjects) + 1) - 1e-9  # sums of shares are not exact
    return float(scores[order][enough][0]) if enough.any() else math.inf


def coverage_deviation(level: float, fitted: int, tested: int) -> float:
    """Return the standard deviation of measured coverage by subject about its target.

    ``sqrt(p (1 - p) (1 / fitted + 1 / tested))``, the chance of both parts. It holds for one face a subject.
    With several, of which a share may be covered, it is an upper bound: the variance of a number between 0
    and 1 with mean p is at most p (1 - p).

    Args:
        level: Target p of the coverage.
        fitted: Number of subjects that the calibration was fitted on.
        tested: Number of subjects that are tested.
    """
    return math.sqrt(level * (1 - level) * (1 / fitted + 1 / tested))
