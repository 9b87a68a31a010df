"""All metrics of a table of predictions, computed by the metrics that a run logs."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from mtmsa_lightning.evaluation.predictions import ClassPredictions, Predictions
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.metrics import (
    AgeMAE,
    ClassCalibrationError,
    CumulativeScoreCurve,
    DecadeMAE,
    GroupAccuracy,
    IntervalCoverage,
    IntervalWidth,
)
from mtmsa_lightning.metrics.base import without_sync
from mtmsa_lightning.metrics.masked_mean import MaskedMean
from mtmsa_lightning.metrics.uncertainty import risk_coverage
from mtmsa_lightning.settings.defaults import MIN_FACES

CURVE_LEVELS = tuple(percent / 100 for percent in range(5, 100, 5))
"""Nominal levels of the coverage curve."""

CURVE_POINTS = 100
"""Number of points of the risk-coverage curve."""


def compute_metrics(predictions: Predictions, min_faces: int = MIN_FACES) -> dict[str, Any]:
    """Return every metric of a table of predictions as plain values, ready for JSON.

    - ``faces``: their number; ``labelled``: faces per kind of label; ``scalars``: see :func:`scalars`;
    - ``curves``: ``cumulative_score`` and ``decade_mae`` (None below ``min_faces``) of exact ages,
      ``interval_coverage`` and ``risk_coverage`` (MAE; without exact ages the fraction of wrong groups) of
      any ages, as far as the predictions have intervals and a distribution; an undefined point is None;
    - ``left_out``: names of the metrics that the predictions are not complete enough for;
    - ``classes``, per class head with labels: ``names``, ``confusion`` (rows: labelled class),
      ``reliability`` (bins of ``confidence`` with ``accuracy`` and ``faces``; None without probabilities)
      and ``masked`` classes, which the model lacks.
    """
    labelled = predictions.labelled()
    heads = {"gender": predictions.gender, "race": predictions.race}
    return {
        "faces": len(predictions),
        "labelled": labelled,
        "scalars": scalars(predictions),
        "left_out": [spec.name for spec in predictions.left_out()],
        "curves": _curves(predictions, min_faces),
        "classes": {task: _diagrams(head) for task, head in heads.items() if head and labelled[task]},
    }


def scalars(predictions: Predictions) -> dict[str, float]:
    """Return the scalar metrics of the suite; those without labels are absent, NaN for too few faces."""
    labelled = predictions.labelled()
    classes = {} if predictions.age is None else {"age": 0, "votes": 0}
    inputs: dict[str, tuple[Any, ...]] = {"age": _age_inputs(predictions)}
    inputs["votes"] = (predictions.age, predictions.votes_mean, predictions.votes_std)
    for task, head in (("gender", predictions.gender), ("race", predictions.race)):
        if head is not None:
            classes[task] = len(head.names)
            inputs[task] = (head.probs, head.target)
    found: dict[str, float] = {}
    for spec in predictions.metric_specs():
        if labelled[spec.needs]:
            metric = without_sync(spec.build(classes[spec.task]))
            metric.update(*inputs[spec.task])
            found[spec.name] = float(metric.compute())
    return found


def plain(values: Tensor) -> Any:
    """Return a number or a vector as plain values; None for NaN and infinite numbers, which JSON lacks."""
    if values.ndim:
        return [plain(value) for value in values]
    return None if not values.isfinite() else values.item()


def _age_inputs(predictions: Predictions) -> tuple[Any, Tensor, Tensor]:
    return predictions.age, predictions.age_low, predictions.age_high


def _measured(metric: Metric, predictions: Predictions) -> Any:
    without_sync(metric).update(*_age_inputs(predictions))
    return plain(metric.compute())


def _curves(predictions: Predictions, min_faces: int) -> dict[str, Any]:
    labelled = predictions.labelled()
    curves: dict[str, Any] = {}
    if predictions.age is not None and labelled["exact"]:
        share = _measured(CumulativeScoreCurve(), predictions)
        curves["cumulative_score"] = {"years": list(range(len(share))), "share": share}
        curves["decade_mae"] = _decade_mae(predictions, min_faces)
    if predictions.age is not None and labelled["age"]:
        levels = [level for level in CURVE_LEVELS if predictions.age.gives(level)]
        if levels:
            curves["interval_coverage"] = _interval_coverage(predictions, levels)
        if predictions.age.gives():
            curves["risk_coverage"] = _risk_coverage(predictions)
    return curves


def _interval_coverage(predictions: Predictions, levels: list[float]) -> dict[str, Any]:
    coverage = [_measured(IntervalCoverage(level), predictions) for level in levels]
    width = [_measured(IntervalWidth(level), predictions) for level in levels]
    return {"level": levels, "coverage": coverage, "width": width}


def _risk_coverage(predictions: Predictions) -> dict[str, Any]:
    assert predictions.age is not None
    edges = age_group_edges(predictions.age_groups)
    metric: MaskedMean = AgeMAE() if predictions.labelled()["exact"] else GroupAccuracy(edges)
    values, counted = metric.per_face(*_age_inputs(predictions))
    risk = values if isinstance(metric, AgeMAE) else ~values
    curve = risk_coverage(predictions.age.std[counted].double(), risk[counted].double())
    faces = len(curve.risk)
    kept = (torch.linspace(0, 1, CURVE_POINTS + 1, dtype=torch.float64)[1:] * faces - 1e-9).ceil().long()
    rows = torch.unique_consecutive(kept.clamp(min=1)) - 1
    return {name: plain(values[rows]) for name, values in curve._asdict().items()}


def _decade_mae(predictions: Predictions, min_faces: int) -> dict[str, Any]:
    metric = DecadeMAE(min_faces)
    mae = _measured(metric, predictions)
    there = metric.count.nonzero()[:, 0].tolist()
    faces = metric.count[there].tolist()
    return {"decade": [10 * row for row in there], "mae": [mae[row] for row in there], "faces": faces}


def _diagrams(head: ClassPredictions) -> dict[str, Any]:
    """Return the confusion matrix and the reliability diagram of a class head."""
    confusion = without_sync(MulticlassConfusionMatrix(len(head.names), ignore_index=-1))
    confusion.update(head.probs, head.target)
    reliability = ClassCalibrationError()
    reliability.update(head.probs, head.target)
    diagram = {name: plain(values) for name, values in reliability.diagram()._asdict().items()}
    return {
        "names": list(head.names),
        "confusion": confusion.compute().tolist(),
        "reliability": diagram if head.has_probabilities else None,
        "masked": head.masked,
    }
