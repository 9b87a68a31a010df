"""Every metric of age by gender, race and age, with its uncertainty, and the largest gaps between groups."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.resampling import (
    DRAWS,
    MIN_CLUSTERS,
    bootstrap_weights,
    cluster_numbers,
    interval,
    sampling_units,
)
from mtmsa_lightning.evaluation.scores import face_scores, metrics_of_means
from mtmsa_lightning.metrics.age import MIN_FACES
from mtmsa_lightning.metrics.functional import normalised_calibration_error

Floats = npt.NDArray[np.float64]

DIMENSIONS = ("gender", "race", "age")
"""What groups are made by: labelled gender, labelled race, and decade of age (or the labelled age group)."""


class Subgroups(NamedTuple):
    """Tables ready for CSV.

    Attributes:
        table: One row per group: ``by`` (``all``, ``gender``, ``gender x race``, ...), its ``gender``,
            ``race`` and ``age`` ("" where it is not divided by), ``faces``, ``subjects`` (a face of unknown
            subject counts as one), and per metric ``<name>``, ``<name>_low`` and ``<name>_high``. Missing
            where too few faces stand behind a metric; the calibration error has no interval.
        gaps: One row per division and metric: the ``gap`` between the ``highest`` and the ``lowest`` group
            of those with enough faces, ``gap_low`` and ``gap_high`` for these two groups (not corrected for
            having chosen them by the same faces), their values, and the number of ``groups`` compared.
    """

    table: pd.DataFrame
    gaps: pd.DataFrame


class _Group(NamedTuple):
    """Faces that share what they are divided by, in increasing order of predicted std."""

    by: str
    names: dict[str, str]
    rows: npt.NDArray[np.int64]


class _Measured(NamedTuple):
    """What the metrics of a group are made of, per face.

    Attributes:
        means: Names of the metrics that are made of a mean.
        per_face: The scores that they average, ``(N, means)``; NaN where a face does not count.
        std: Predicted standard deviation, ``(N,)``.
        error: Absolute error, ``(N,)``; NaN without an exact age.
    """

    means: list[str]
    per_face: Floats
    std: Floats
    error: Floats

    @property
    def names(self) -> list[str]:
        """Names of all metrics; the last two need exact ages."""
        exact = ["age_aurc", "age_ence"] if np.isfinite(self.error).any() else []
        return [*self.means, *exact]


def subgroups(
    predictions: Predictions,
    min_faces: int = MIN_FACES,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Subgroups:
    """Compute every metric of age for every group of faces, and the largest gaps.

    Groups are made by every combination of labelled gender, labelled race, and age: the decade of an exact
    age, or the labelled age group. A face stands only in groups of which it has all labels. Intervals are
    percentile bootstrap intervals over whole subjects (see :mod:`.resampling`), drawn from all faces at once,
    so that differences between groups come from the same samples.

    Args:
        predictions: Predictions of age with labels.
        min_faces: Fewest faces behind a metric; groups with fewer have their count only.
        draws: Number of bootstrap samples.
        level: Coverage of the intervals.
        seed: Seed of the samples.

    Raises:
        DataError: If there is no prediction of age, or no age label.
    """
    if predictions.age is None or not predictions.labelled()["age"]:
        raise DataError("subgroups need predictions of age and age labels: this table lacks them")
    measured = _measure(predictions)
    groups = list(_groups(predictions))
    clusters = cluster_numbers(sampling_units(predictions.ids, predictions.subjects), len(predictions))
    points, drawn = _resample(measured, groups, clusters, min_faces, draws, seed)
    rows = [
        _row(group, clusters, measured.names, point, samples, level)
        for group, point, samples in zip(groups, points, drawn, strict=True)
    ]
    return Subgroups(pd.DataFrame(rows), _gaps(groups, measured.names, points, drawn, clusters, level))


# ---------------------------------------------------------------- faces


def _measure(predictions: Predictions) -> _Measured:
    low, high, age = predictions.age_low, predictions.age_high, predictions.age
    assert age is not None
    scores = face_scores(replace(predictions, gender=None, race=None))
    error = torch.where(low == high, (age.mean - low).abs(), torch.nan)
    return _Measured([*scores], scores.to_numpy(), age.std.double().numpy(), error.numpy())


def _groups(predictions: Predictions) -> Iterator[_Group]:
    """Yield the groups of every division, the widest division first."""
    labels = {
        "gender": predictions.gender_labels,
        "race": predictions.race_labels,
        "age": age_labels(predictions),
    }
    known = [name for name in DIMENSIONS if (labels[name] != "").any()]
    aged = labels["age"] != ""
    assert predictions.age is not None
    by_std = predictions.age.std.argsort(stable=True).numpy()
    for size in range(len(known) + 1):
        for by in combinations(known, size):
            there = np.logical_and.reduce([aged, *(labels[name] != "" for name in by)])
            rows = by_std[there[by_std]]
            kinds = pd.DataFrame({name: labels[name][rows] for name in by}, index=rows)
            grouped = kinds.groupby(list(by), sort=False).indices if by else {(): np.arange(len(rows))}
            for key, members in sorted(grouped.items(), key=lambda item: _order(by, item[0])):
                names = dict(zip(by, _as_tuple(key), strict=True))
                yield _Group(" x ".join(by) or "all", names, rows[members])


def age_labels(predictions: Predictions) -> npt.NDArray[np.str_]:
    """Return the decade of an exact age ("20-29"), or the labelled age group ("25-32"); "" if unknown."""

    def text(low: float, high: float) -> str:
        if np.isnan(low):
            return ""
        first = low // 10 * 10
        return f"{low:.0f}-{high:.0f}" if low < high else f"{first:.0f}-{first + 9:.0f}"

    pairs = zip(predictions.age_low.tolist(), predictions.age_high.tolist(), strict=True)
    return np.array([text(low, high) for low, high in pairs], dtype=np.str_)


def _order(by: tuple[str, ...], key: Any) -> tuple[Any, ...]:
    """Sort ages by their first year, names by the alphabet."""
    parts = zip(by, _as_tuple(key), strict=True)
    return tuple(int(part.partition("-")[0]) if name == "age" else part for name, part in parts)


def _as_tuple(key: Any) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (key,)


# ---------------------------------------------------------------- metrics


def _resample(
    measured: _Measured,
    groups: list[_Group],
    clusters: npt.NDArray[np.int64],
    min_faces: int,
    draws: int,
    seed: int,
) -> tuple[list[Floats], list[Floats]]:
    """Return metrics of every group, NaN without enough faces, and of its samples, ``(draws, metrics)``."""
    points = [_point(measured, group.rows, min_faces) for group in groups]
    drawn: list[list[Floats]] = [[] for _ in groups]
    for weights in bootstrap_weights(int(clusters.max()) + 1, draws, seed):
        for group, point, samples in zip(groups, points, drawn, strict=True):
            if np.isfinite(point).any():
                samples.append(_metrics(measured, group.rows, weights[:, clusters[group.rows]]))
    nothing = np.full((draws, len(measured.names)), np.nan)
    return points, [np.concatenate(samples) if samples else nothing for samples in drawn]


def _point(measured: _Measured, rows: npt.NDArray[np.int64], min_faces: int) -> Floats:
    """Return the metrics of a group, NaN where fewer faces than ``min_faces`` stand behind one."""
    counts = (~np.isnan(measured.per_face[rows])).sum(0)
    found = _metrics(measured, rows, np.ones((1, len(rows))))[0]
    if len(found) > len(counts):
        std, error = (torch.from_numpy(values[rows]) for values in (measured.std, measured.error))
        exact = error.isfinite()
        found[-1] = normalised_calibration_error(std[exact], error[exact]).item()
        counts = np.concatenate([counts, [exact.sum(), exact.sum()]])
    return np.where(counts >= max(1, min_faces), found, np.nan)


def _metrics(measured: _Measured, rows: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the metrics of a group in every sample, ``(samples, metrics)``.

    Without the calibration error: chance lifts it above 0, in a bootstrap sample more than in the faces that
    are there, so that the percentiles would say nothing of it.

    Args:
        measured: Values of all faces.
        rows: Faces of the group in increasing order of std.
        weights: How often every sample holds them, ``(samples, len(rows))``.
    """
    values = measured.per_face[rows]
    counted, finite = ~np.isnan(values), np.isfinite(values)
    means = _divide(weights @ np.where(finite, values, 0.0), weights @ counted)
    means[:, (counted & ~finite).any(0)] = np.nan  # such as a width without end: no mean to speak of
    found = metrics_of_means(measured.means, means)
    if len(measured.names) == len(measured.means):
        return found
    areas = risk_coverage_areas(measured.std[rows], measured.error[rows], weights)
    return np.column_stack([found, areas, np.full(len(weights), np.nan)])


def risk_coverage_areas(std: Floats, error: Floats, weights: Floats) -> Floats:
    """Return the area under the risk-coverage curve of many bootstrap samples, in years.

    A face that a sample holds w times, after K surer ones whose errors sum to E, adds the risks
    ``(E + r error) / (K + r)``, r = 1 ... w. That is ``w error + (E - K error) (H(K + w) - H(K))``, with the
    harmonic numbers H. Faces of equal std count as one with their mean error, as in
    :func:`~mtmsa_lightning.metrics.uncertainty.risk_coverage`.

    Args:
        std: Predicted standard deviations in increasing order, ``(N,)``.
        error: Absolute errors in years, ``(N,)``; NaN is not counted.
        weights: How often every sample holds every face, whole numbers, ``(samples, N)``.

    Returns:
        ``(samples,)``; NaN for an empty sample.
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
    surer = errors.cumsum(1) - errors - (upto - faces) * error
    return _divide(errors.sum(1) + (surer * steps).sum(1), total)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    nothing = np.full_like(numerator, np.nan)
    divided: Floats = np.divide(numerator, denominator, out=nothing, where=denominator > 0)
    return divided


# ---------------------------------------------------------------- tables


def _row(
    group: _Group,
    clusters: npt.NDArray[np.int64],
    names: list[str],
    point: Floats,
    drawn: Floats,
    level: float,
) -> dict[str, Any]:
    subjects = len(np.unique(clusters[group.rows]))
    row: dict[str, Any] = {"by": group.by, **{name: group.names.get(name, "") for name in DIMENSIONS}}
    row |= {"faces": len(group.rows), "subjects": subjects}
    for name, value, samples in zip(names, point, drawn.T, strict=True):
        low, high = _interval(samples, subjects, level) if np.isfinite(value) else (np.nan, np.nan)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def _interval(samples: Floats, subjects: int, level: float) -> tuple[float, float]:
    return interval(samples, level) if subjects >= MIN_CLUSTERS else (np.nan, np.nan)


def _gaps(
    groups: list[_Group],
    names: list[str],
    points: list[Floats],
    drawn: list[Floats],
    clusters: npt.NDArray[np.int64],
    level: float,
) -> pd.DataFrame:
    rows = []
    for by in dict.fromkeys(group.by for group in groups if group.names):
        members = [number for number, group in enumerate(groups) if group.by == by]
        for column, name in enumerate(names):
            enough = [number for number in members if np.isfinite(points[number][column])]
            if len(enough) > 1:
                enough.sort(key=lambda number: points[number][column])
                lowest, highest = enough[0], enough[-1]
                samples = drawn[highest][:, column] - drawn[lowest][:, column]
                subjects = min(len(np.unique(clusters[groups[end].rows])) for end in (lowest, highest))
                low, high = _interval(samples, subjects, level)
                ends = {"highest": highest, "lowest": lowest}
                row = {"by": by, "metric": name, "gap": points[highest][column] - points[lowest][column]}
                row |= {"gap_low": low, "gap_high": high, "groups": len(enough)}
                for end, number in ends.items():
                    row |= {end: ", ".join(groups[number].names.values())}
                    row |= {f"{end}_value": points[number][column], f"{end}_faces": len(groups[number].rows)}
                rows.append(row)
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


GAP_COLUMNS = [
    "by", "metric", "gap", "gap_low", "gap_high", "groups",
    "highest", "highest_value", "highest_faces", "lowest", "lowest_value", "lowest_faces",
]  # fmt: skip
