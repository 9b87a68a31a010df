"""Metrics of groups of faces, and of their bootstrap samples."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from mtmsa_lightning.evaluation.face_scores import face_scores, metrics_of_means
from mtmsa_lightning.evaluation.predictions import ClassPredictions, Predictions
from mtmsa_lightning.evaluation.resampling import Floats, bootstrap_weights, divide
from mtmsa_lightning.metrics.base import ECE_BINS, predicted_classes
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.metrics.uncertainty import normalised_calibration_error

Rows = npt.NDArray[np.int64]


class ClassScores(NamedTuple):
    """Scores of a class head, ``(N, classes)`` and ``(N, bins)``; zeros without a label.

    Attributes:
        label: 1 at the labelled class.
        right: 1 at the labelled class if it was predicted.
        excess: Whether the prediction is right minus its confidence, at the bin of the confidence.
    """

    label: Floats
    right: Floats
    excess: Floats

    @classmethod
    def of(cls, head: ClassPredictions) -> "ClassScores":
        """Return the scores of a head."""
        known = head.target >= 0
        label = F.one_hot(head.target.clamp(min=0), len(head.names)).double() * known[:, None]
        right = (predicted_classes(head.probs) == head.target).double() * known
        confidence = head.probs.double().amax(dim=1)
        edges = torch.linspace(0, 1, ECE_BINS + 1, dtype=torch.float64)
        bins = F.one_hot(torch.bucketize(confidence, edges[1:-1], right=True), ECE_BINS)
        excess = bins * ((right - confidence) * known)[:, None]
        return cls(label.numpy(), (label * right[:, None]).numpy(), excess.numpy())

    def metrics(self, rows: Rows, weights: Floats) -> Floats:
        """Return balanced accuracy and expected calibration error of samples, ``(samples, 2)``."""
        labelled = weights @ self.label[rows]
        recalls = divide(weights @ self.right[rows], labelled)
        present = ~np.isnan(recalls)
        balanced = divide(np.where(present, recalls, 0.0).sum(1), present.sum(1).astype(np.float64))
        error = divide(np.abs(weights @ self.excess[rows]).sum(1), labelled.sum(1))
        return np.column_stack([balanced, error])


class FaceScores(NamedTuple):
    """Scores of every face, from which the metrics of groups are computed.

    Attributes:
        means: Names of metrics that are functions of a mean.
        per_face: Their scores ``(N, means)``, NaN where not counted.
        std: Predicted standard deviation ``(N,)``, NaN without a distribution of age.
        error: Absolute error of exact ages ``(N,)``, NaN otherwise.
        classes: Scores of the class heads with labels, by task.
    """

    means: list[str]
    per_face: Floats
    std: Floats
    error: Floats
    classes: dict[str, ClassScores]

    @property
    def names(self) -> list[str]:
        """Names of all metrics: means, those of exact ages with a distribution, those of class heads."""
        exact = np.isfinite(self.error).any() and not np.isnan(self.std).any()
        of_classes = (f"{task}_{name}" for task in self.classes for name in _OF_CLASSES)
        return [*self.means, *(("age_aurc", "age_ence") if exact else ()), *of_classes]

    @classmethod
    def of(cls, predictions: Predictions) -> "FaceScores":
        """Return the scores of predictions."""
        low, high, age = predictions.age_low, predictions.age_high, predictions.age
        scores = face_scores(predictions)
        heads = {"gender": predictions.gender, "race": predictions.race}
        labelled = predictions.labelled()
        classes = {task: ClassScores.of(head) for task, head in heads.items() if head and labelled[task]}
        unknown = torch.full_like(low, torch.nan)
        error = unknown if age is None else torch.where(low == high, (age.mean - low).abs(), torch.nan)
        std = age.std.double() if age is not None and age.gives() else unknown
        return cls([*scores], scores.to_numpy(), std.numpy(), error.numpy(), classes)

    def fractions(self) -> list[str]:
        """Return the names of the metrics that are fractions of faces: means of scores 0 or 1."""
        return [
            name
            for name, values in zip(self.means, self.per_face.T, strict=True)
            if METRIC_BY_NAME[name].fraction and np.isin(values[~np.isnan(values)], (0, 1)).all()
        ]


_OF_CLASSES = ("balanced_acc", "ece")

BIASED = ("gender_ece", "race_ece")
"""Metrics whose bootstrap samples are larger than they are on average."""


def resampled_metrics(
    scores: FaceScores, groups: list[Rows], clusters: Rows, min_faces: int, draws: int, seed: int
) -> tuple[list[Floats], list[Floats]]:
    """Return the metrics ``(metrics,)`` of every group, and of its bootstrap samples ``(draws, metrics)``.

    Groups are faces in increasing order of std, the first one all faces; metrics of fewer than ``min_faces``
    faces of the others are NaN.
    """
    points = [_point(scores, rows, min_faces if number else 1) for number, rows in enumerate(groups)]
    drawn: list[list[Floats]] = [[] for _ in groups]
    for weights in bootstrap_weights(int(clusters.max()) + 1, draws, seed):
        for rows, point, samples in zip(groups, points, drawn, strict=True):
            if np.isfinite(point).any():
                samples.append(_metrics(scores, rows, weights[:, clusters[rows]]))
    nothing = np.full((draws, len(scores.names)), np.nan)
    return points, [np.concatenate(samples) if samples else nothing for samples in drawn]


def _point(scores: FaceScores, rows: Rows, min_faces: int) -> Floats:
    """Return the metrics of a group, NaN for metrics of fewer than ``min_faces`` faces."""
    counts = [(~np.isnan(scores.per_face[rows])).sum(0)]
    found = _metrics(scores, rows, np.ones((1, len(rows))))[0]
    if "age_ence" in scores.names:
        std, error = (torch.from_numpy(values[rows]) for values in (scores.std, scores.error))
        exact = error.isfinite()
        found[len(scores.means) + 1] = normalised_calibration_error(std[exact], error[exact]).item()
        counts.append(np.repeat(exact.sum().numpy(), 2))
    counts += [np.repeat(of.label[rows].sum(), len(_OF_CLASSES)) for of in scores.classes.values()]
    return np.where(np.concatenate(counts) >= max(1, min_faces), found, np.nan)


def _metrics(scores: FaceScores, rows: Rows, weights: Floats) -> Floats:
    """Return the metrics of a group in samples that contain its faces ``weights`` times, ``(samples, rows)``.

    The calibration error of ages is NaN: percentiles of its samples would be biased.
    """
    values = scores.per_face[rows]
    counted, finite = ~np.isnan(values), np.isfinite(values)
    means = divide(weights @ np.where(finite, values, 0.0), weights @ counted)
    means[:, (counted & ~finite).any(0)] = np.nan  # such as infinite widths
    found = [metrics_of_means(scores.means, means)]
    if "age_ence" in scores.names:
        areas = risk_coverage_areas(scores.std[rows], scores.error[rows], weights)
        found += [np.column_stack([areas, np.full(len(weights), np.nan)])]
    return np.column_stack([*found, *(of.metrics(rows, weights) for of in scores.classes.values())])


def risk_coverage_areas(std: Floats, error: Floats, weights: Floats) -> Floats:
    """Return the areas under the risk-coverage curve of samples that contain faces ``weights`` times.

    A face contained w times in a sample, after K faces of smaller std whose errors sum to E, adds the risks
    ``(E + r error) / (K + r)``, r = 1 ... w. That is ``w error + (E - K error) (H(K + w) - H(K))``, with the
    harmonic numbers H. Faces of equal std count as one with their mean error. ``std`` increases.
    """
    counted = np.isfinite(error)
    if not counted.all():
        std, error, weights = std[counted], error[counted], weights[:, counted]
    faces, errors = weights, weights * error
    first = np.flatnonzero(np.diff(std, prepend=-np.inf))
    if len(first) < len(std):
        faces, errors = (np.add.reduceat(values, first, axis=1) for values in (faces, errors))
        error = np.divide(errors, faces, out=np.zeros_like(errors), where=faces > 0)
    upto = faces.cumsum(1)
    total = upto[:, -1] if len(std) else np.zeros(len(weights))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total.max(initial=0) + 1))])
    steps = np.diff(harmonic[upto.astype(np.int64)], axis=1, prepend=0)
    smaller = errors.cumsum(1) - errors - (upto - faces) * error
    return divide(errors.sum(1) + (smaller * steps).sum(1), total)
