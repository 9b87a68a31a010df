"""Metrics of age of groups of faces, and of their bootstrap samples."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mtmsa_lightning.evaluation.face_scores import face_scores, metrics_of_means
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.resampling import Floats, bootstrap_weights, divide
from mtmsa_lightning.metrics.uncertainty import normalised_calibration_error

Rows = npt.NDArray[np.int64]


class FaceScores(NamedTuple):
    """Scores ``(N, means)`` of metrics of a mean, and std and error ``(N,)``; NaN if not counted.

    Without a distribution of age the std is NaN.
    """

    means: list[str]
    per_face: Floats
    std: Floats
    error: Floats

    @property
    def names(self) -> list[str]:
        """Names of all metrics; the last two need exact ages and a distribution."""
        exact = np.isfinite(self.error).any() and not np.isnan(self.std).any()
        return [*self.means, *(("age_aurc", "age_ence") if exact else ())]

    @classmethod
    def of(cls, predictions: Predictions) -> "FaceScores":
        """Return the scores of predictions of age."""
        low, high, age = predictions.age_low, predictions.age_high, predictions.age
        assert age is not None
        scores = face_scores(replace(predictions, gender=None, race=None))
        error = torch.where(low == high, (age.mean - low).abs(), torch.nan)
        std = age.std.double() if age.gives() else torch.full_like(error, torch.nan)
        return cls([*scores], scores.to_numpy(), std.numpy(), error.numpy())


def resampled_metrics(
    scores: FaceScores, groups: list[Rows], clusters: Rows, min_faces: int, draws: int, seed: int
) -> tuple[list[Floats], list[Floats]]:
    """Return the metrics ``(metrics,)`` of every group, and of its bootstrap samples ``(draws, metrics)``.

    Groups are faces in increasing order of std; metrics of fewer than ``min_faces`` faces are NaN.
    """
    points = [_point(scores, rows, min_faces) for rows in groups]
    drawn: list[list[Floats]] = [[] for _ in groups]
    for weights in bootstrap_weights(int(clusters.max()) + 1, draws, seed):
        for rows, point, samples in zip(groups, points, drawn, strict=True):
            if np.isfinite(point).any():
                samples.append(_metrics(scores, rows, weights[:, clusters[rows]]))
    nothing = np.full((draws, len(scores.names)), np.nan)
    return points, [np.concatenate(samples) if samples else nothing for samples in drawn]


def _point(scores: FaceScores, rows: Rows, min_faces: int) -> Floats:
    """Return the metrics of a group, NaN for metrics of fewer than ``min_faces`` faces."""
    counts = (~np.isnan(scores.per_face[rows])).sum(0)
    found = _metrics(scores, rows, np.ones((1, len(rows))))[0]
    if len(found) > len(counts):
        std, error = (torch.from_numpy(values[rows]) for values in (scores.std, scores.error))
        exact = error.isfinite()
        found[-1] = normalised_calibration_error(std[exact], error[exact]).item()
        counts = np.concatenate([counts, [exact.sum(), exact.sum()]])
    return np.where(counts >= max(1, min_faces), found, np.nan)


def _metrics(scores: FaceScores, rows: Rows, weights: Floats) -> Floats:
    """Return the metrics of a group in samples that contain its faces ``weights`` times, ``(samples, rows)``.

    The calibration error is NaN: percentiles of its samples would be biased.
    """
    values = scores.per_face[rows]
    counted, finite = ~np.isnan(values), np.isfinite(values)
    means = divide(weights @ np.where(finite, values, 0.0), weights @ counted)
    means[:, (counted & ~finite).any(0)] = np.nan  # such as infinite widths
    found = metrics_of_means(scores.means, means)
    if len(scores.names) == len(scores.means):
        return found
    areas = risk_coverage_areas(scores.std[rows], scores.error[rows], weights)
    return np.column_stack([found, areas, np.full(len(weights), np.nan)])


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
