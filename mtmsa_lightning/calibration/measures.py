"""Figures that tell calibrated uncertainty from uncalibrated, and the table to choose a threshold by."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning.calibration.record import LEVELS
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.metrics.classes import ClassCalibrationError
from mtmsa_lightning.metrics.groups import GroupAccuracy
from mtmsa_lightning.metrics.probabilistic import AgeIntervalNLL, AgeNLL, IntervalCoverage, IntervalWidth
from mtmsa_lightning.metrics.uncertainty import ENCE
from mtmsa_lightning.metrics.without_sync import without_sync
from mtmsa_lightning.models.distributions import AgeDistribution

KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the faces, the surest ones, for which the risk is shown."""


class LabelledPredictions(NamedTuple):
    """What a network says of N faces, beside their labels.

    Attributes:
        age: Distributions of age in years; None without an age head.
        low: Lower ends of the age labels in completed years, ``(N,)``, NaN where missing.
        high: Upper ends, ``(N,)``; equal to ``low`` for an exact age.
        classes: Task to logits ``(N, classes)`` and class indices ``(N,)``, -1 where missing.
        units: Subject of each face as a number, ``(N,)``.
    """

    age: AgeDistribution | None
    low: Tensor
    high: Tensor
    classes: dict[str, tuple[Tensor, Tensor]]
    units: Tensor

    @property
    def labelled(self) -> Tensor:
        """Which faces have an age, bool ``(N,)``."""
        return ~(self.low + self.high).isnan()

    def size(self) -> dict[str, int]:
        """Return the numbers of ``faces`` and of their ``subjects``; with an age head, of the aged."""
        units = self.units if self.age is None else self.units[self.labelled]
        return {"faces": len(units), "subjects": len(torch.unique(units))}


def calibration_metrics(said: LabelledPredictions) -> dict[str, Any]:
    """Return figures as plain values; None where there is no label for one, or it is infinite.

    Returns:
        ``faces`` and ``subjects`` with an age; by level in percent ``coverage`` (share of faces whose label
        the interval holds whole), ``coverage_by_subject`` (mean over subjects of their faces' share) and
        mean ``width`` in years; ``age_nll``, ``age_interval_nll``, ``age_ence``; ``gender_ece``,
        ``gender_nll``, and of race likewise.
    """
    figures: dict[str, Any] = {}
    if said.age is not None:
        figures |= said.size()
        for name, values in _intervals(said.age, said).items():
            figures[name] = {f"{100 * p:g}": _plain(value) for p, value in zip(LEVELS, values, strict=True)}
        metrics: dict[str, Metric] = {
            "age_nll": AgeNLL(),
            "age_interval_nll": AgeIntervalNLL(),
            "age_ence": ENCE(),
        }
        for name, metric in metrics.items():
            without_sync(metric).update(said.age, said.low, said.high)
            figures[name] = _plain(metric.compute())
    for task, (logits, target) in said.classes.items():
        error = without_sync(ClassCalibrationError())
        error.update(logits.double().softmax(1), target)
        figures[f"{task}_ece"] = _plain(error.compute())
        figures[f"{task}_nll"] = _plain(F.cross_entropy(logits.double(), target, ignore_index=-1))
    return figures


def _intervals(age: AgeDistribution, said: LabelledPredictions) -> dict[str, list[Tensor]]:
    labelled = said.labelled
    found: dict[str, list[Tensor]] = {"coverage": [], "coverage_by_subject": [], "width": []}
    _, subject, faces = torch.unique(said.units[labelled], return_inverse=True, return_counts=True)
    share = 1 / faces.double()[subject] / len(faces)
    for level in LEVELS:
        covered, _ = IntervalCoverage(level).per_face(age, said.low, said.high)
        width, _ = IntervalWidth(level).per_face(age, said.low, said.high)
        found["coverage"].append(covered[labelled].double().mean())
        found["coverage_by_subject"].append((covered[labelled] * share).sum())
        found["width"].append(width[labelled].mean())
    return found


def _plain(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


class RiskAtThreshold(NamedTuple):
    """What a threshold keeps.

    Attributes:
        threshold: Largest uncertainty that is kept.
        kept: Share of the faces.
        risk: Mean risk of those kept.
    """

    threshold: float
    kept: float
    risk: float


def risk_by_threshold(uncertainty: Tensor, risk: Tensor) -> list[RiskAtThreshold]:
    """Return the risk of the surest faces, for thresholds that keep about the shares ``KEPT`` of them.

    Args:
        uncertainty: Of each face, ``(N,)``; faces of equal uncertainty are kept together.
        risk: Of each face, ``(N,)``.
    """
    rows = []
    for share in KEPT:
        threshold = uncertainty.sort().values[max(1, round(share * len(uncertainty))) - 1]
        kept = uncertainty <= threshold
        rows.append(RiskAtThreshold(float(threshold), float(kept.double().mean()), float(risk[kept].mean())))
    return rows


def age_risk(said: LabelledPredictions) -> tuple[str, Tensor]:
    """Return what to judge the kept faces by, and its value for every face with an age.

    The absolute error in years where all labels are exact, else whether the group is wrong.
    """
    assert said.age is not None
    low, high = said.low[said.labelled], said.high[said.labelled]
    if (low == high).all():
        return "MAE (years)", (said.age.mean[said.labelled] - low).abs()
    right, _ = GroupAccuracy(AGE_GROUP_EDGES).to(low.device).per_face(said.age, said.low, said.high)
    return "wrong group", (~right[said.labelled]).double()
