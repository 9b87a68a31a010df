"""Calibration metrics, and the risk of the faces that a threshold keeps."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning.calibration.calibration import LEVELS
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.metrics.age_groups import GroupAccuracy
from mtmsa_lightning.metrics.base import without_sync
from mtmsa_lightning.metrics.classes import ClassCalibrationError
from mtmsa_lightning.metrics.probabilistic import AgeIntervalNLL, AgeNLL, IntervalCoverage, IntervalWidth
from mtmsa_lightning.metrics.uncertainty import ENCE
from mtmsa_lightning.models.distributions import AgeDistribution

KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Fractions of the faces, the most certain ones, for which the risk is shown."""


class LabelledPredictions(NamedTuple):
    """Predictions for N faces with their labels."""

    age: AgeDistribution | None  # of age in years; None without an age head
    low: Tensor  # lower ends of the age labels in completed years, (N,), NaN where missing
    high: Tensor  # upper ends, (N,); equal to low for an exact age
    classes: dict[str, tuple[Tensor, Tensor]]  # task to logits (N, classes), indices (N,) or -1
    units: Tensor  # subject of each face as a number, (N,)
    groups: tuple[tuple[int, int], ...] = ()  # age groups that are predicted; empty for Adience's

    @property
    def labelled(self) -> Tensor:
        """Which faces have an age label, bool ``(N,)``."""
        return ~(self.low + self.high).isnan()

    def size(self) -> dict[str, int]:
        """Return the numbers of ``faces`` and ``subjects``; with an age head, of those with an age label."""
        units = self.units if self.age is None else self.units[self.labelled]
        return {"faces": len(units), "subjects": len(torch.unique(units))}


def calibration_metrics(faces: LabelledPredictions) -> dict[str, Any]:
    """Return the calibration metrics as plain values; None without labels, or if a value is infinite.

    Returns:
        ``faces`` and ``subjects`` with an age; by level in percent ``coverage`` (fraction of faces whose
        label lies inside the interval), ``coverage_by_subject`` (mean over subjects of that fraction) and
        mean ``width`` in years; ``age_nll``, ``age_interval_nll``, ``age_ence``; ``gender_ece``,
        ``gender_nll``, ``race_ece``, ``race_nll``.
    """
    found: dict[str, Any] = {}
    if faces.age is not None:
        found |= faces.size()
        for name, values in _intervals(faces.age, faces).items():
            found[name] = {f"{100 * p:g}": _plain(value) for p, value in zip(LEVELS, values, strict=True)}
        metrics: dict[str, Metric]
        metrics = {"age_nll": AgeNLL(), "age_interval_nll": AgeIntervalNLL(), "age_ence": ENCE()}
        for name, metric in metrics.items():
            without_sync(metric).update(faces.age, faces.low, faces.high)
            found[name] = _plain(metric.compute())
    for task, (logits, target) in faces.classes.items():
        error = without_sync(ClassCalibrationError())
        error.update(logits.double().softmax(1), target)
        found[f"{task}_ece"] = _plain(error.compute())
        found[f"{task}_nll"] = _plain(F.cross_entropy(logits.double(), target, ignore_index=-1))
    return found


def _intervals(age: AgeDistribution, faces: LabelledPredictions) -> dict[str, list[Tensor]]:
    labelled = faces.labelled
    _, subject, sizes = torch.unique(faces.units[labelled], return_inverse=True, return_counts=True)
    weight = 1 / sizes.double()[subject] / len(sizes)
    found: dict[str, list[Tensor]] = {"coverage": [], "coverage_by_subject": [], "width": []}
    for level in LEVELS:
        covered = IntervalCoverage(level).per_face(age, faces.low, faces.high)[0][labelled]
        width = IntervalWidth(level).per_face(age, faces.low, faces.high)[0][labelled]
        found["coverage"].append(covered.double().mean())
        found["coverage_by_subject"].append((covered * weight).sum())
        found["width"].append(width.mean())
    return found


def _plain(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


class RiskAtThreshold(NamedTuple):
    """The faces that a threshold keeps, and their risk."""

    threshold: float  # largest uncertainty that is kept
    kept: float  # fraction of the faces
    risk: float  # mean of the kept faces


def risk_by_threshold(uncertainty: Tensor, risk: Tensor) -> list[RiskAtThreshold]:
    """Return the risk of the most certain faces, for thresholds that keep about the fractions ``KEPT``.

    Faces of equal uncertainty, ``(N,)``, are kept together.
    """
    rows = []
    for fraction in KEPT:
        threshold = uncertainty.sort().values[max(1, round(fraction * len(uncertainty))) - 1]
        kept = uncertainty <= threshold
        rows.append(RiskAtThreshold(float(threshold), float(kept.double().mean()), float(risk[kept].mean())))
    return rows


def age_risk(faces: LabelledPredictions) -> tuple[str, Tensor]:
    """Return the name of the risk of age, and its value for every face with an age label.

    It is the absolute error in years if all labels are exact, else whether the group is wrong.
    """
    assert faces.age is not None
    low, high = faces.low[faces.labelled], faces.high[faces.labelled]
    if (low == high).all():
        return "MAE (years)", (faces.age.mean[faces.labelled] - low).abs()
    metric = GroupAccuracy(age_group_edges(faces.groups)).to(low.device)
    right, _ = metric.per_face(faces.age, faces.low, faces.high)
    return "wrong group", (~right[faces.labelled]).double()
