"""Metrics of age by gender, race and age, with intervals, and the largest gaps between groups."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.resampling import (
    MIN_CLUSTERS,
    Floats,
    cluster_numbers,
    interval,
    sampling_units,
)
from mtmsa_lightning.evaluation.subgroup_metrics import FaceScores, Rows, resampled_metrics
from mtmsa_lightning.metrics.age import MIN_FACES
from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL, DRAWS

DIMENSIONS = ("gender", "race", "age")
"""Dimensions of groups: labelled gender, labelled race, and decade of age (or the labelled age group)."""


class Subgroups(NamedTuple):
    """Tables ready for CSV.

    Attributes:
        table: One row per group: ``by`` (``all``, ``gender``, ``gender x race``, ...), its ``gender``,
            ``race`` and ``age`` ("" if not grouped by it), ``faces``, ``subjects`` (a face of unknown subject
            counts as one), and per metric ``<name>``, ``<name>_low`` and ``<name>_high``. Missing for too few
            faces; the calibration error has no interval.
        gaps: One row per division and metric: the ``gap`` between the ``highest`` and the ``lowest`` group of
            those with enough faces, ``gap_low`` and ``gap_high`` for these two groups (not corrected for
            their selection on the same faces), their values, and the number of ``groups`` compared.
    """

    table: pd.DataFrame
    gaps: pd.DataFrame


class _Group(NamedTuple):
    """Faces with the same labels, in increasing order of predicted std."""

    by: str
    names: dict[str, str]
    rows: Rows


def subgroups(
    predictions: Predictions,
    min_faces: int = MIN_FACES,
    draws: int = DRAWS,
    level: float = CONFIDENCE_LEVEL,
    seed: int = 0,
) -> Subgroups:
    """Compute every metric of age for every group of faces, and the largest gaps.

    Groups are made by every combination of labelled gender, labelled race, and age: the decade of an exact
    age, or the labelled age group. Metrics of fewer than ``min_faces`` faces are missing. Intervals are
    percentile bootstrap intervals over whole subjects, drawn from all faces at once. DataError without ages.
    """
    if predictions.age is None or not predictions.labelled()["age"]:
        raise DataError("subgroups need predictions of age and age labels")
    scores = FaceScores.of(predictions)
    groups = list(_groups(predictions))
    clusters = cluster_numbers(sampling_units(predictions.ids, predictions.subjects), len(predictions))
    rows_of = [group.rows for group in groups]
    points, drawn = resampled_metrics(scores, rows_of, clusters, min_faces, draws, seed)
    metrics = zip(groups, points, drawn, strict=True)
    rows = [_row(group, clusters, scores.names, point, samples, level) for group, point, samples in metrics]
    return Subgroups(pd.DataFrame(rows), _gaps(groups, scores.names, points, drawn, clusters, level))


def _groups(predictions: Predictions) -> Iterator[_Group]:
    """Yield the groups of every combination of dimensions, fewest dimensions first."""
    labels = {"gender": predictions.gender_labels, "race": predictions.race_labels}
    labels["age"] = age_labels(predictions)
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
    """Return a sort key: ages by their first year, names alphabetically."""
    parts = zip(by, _as_tuple(key), strict=True)
    return tuple(int(part.partition("-")[0]) if name == "age" else part for name, part in parts)


def _as_tuple(key: Any) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (key,)


def _row(
    group: _Group, clusters: Rows, names: list[str], point: Floats, drawn: Floats, level: float
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
    clusters: Rows,
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
                row = {"by": by, "metric": name, "gap": points[highest][column] - points[lowest][column]}
                row |= {"gap_low": low, "gap_high": high, "groups": len(enough)}
                for end, number in (("highest", highest), ("lowest", lowest)):
                    row |= {end: ", ".join(groups[number].names.values())}
                    row |= {f"{end}_value": points[number][column], f"{end}_faces": len(groups[number].rows)}
                rows.append(row)
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


GAP_COLUMNS = [
    "by", "metric", "gap", "gap_low", "gap_high", "groups",
    "highest", "highest_value", "highest_faces", "lowest", "lowest_value", "lowest_faces",
]  # fmt: skip
