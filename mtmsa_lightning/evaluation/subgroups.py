"""Metrics of age, gender and race by labelled gender, race and age, with intervals.

The vocabulary is that of fairlearn's ``MetricFrame``: the metrics by group, and of each metric the
``difference`` and the ``ratio`` between groups, ``group_min`` and ``group_max``.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.face_groups import DIMENSIONS, Group, face_groups, labelled_faces
from mtmsa_lightning.evaluation.group_differences import Groups, gaps, to_overall
from mtmsa_lightning.evaluation.group_rates import class_rates, equalised_odds
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.proportions import fractions
from mtmsa_lightning.evaluation.resampling import (
    MIN_CLUSTERS,
    Floats,
    cluster_numbers,
    interval,
    sampling_units,
)
from mtmsa_lightning.evaluation.subgroup_metrics import BIASED, FaceScores, resampled_metrics
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL, DRAWS, MIN_FACES


class Subgroups(NamedTuple):
    """Tables ready for CSV.

    Attributes:
        table: One row per group: ``by`` (``all``, ``gender``, ``gender x race``, ...), its ``gender``,
            ``race`` and ``age`` ("" if not grouped by it), ``faces``, ``subjects`` (a face of unknown subject
            counts as one), ``<task>_faces`` with a label of each task, per metric ``<name>``, ``<name>_low``
            and ``<name>_high``, and a ``note`` on what is missing and why. The calibration error of ages has
            no interval.
        gaps: See :func:`.group_differences.gaps`.
        differences: See :func:`.group_differences.to_overall`.
        rates: See :func:`.group_rates.class_rates`.
        odds: See :func:`.group_rates.equalised_odds`.
    """

    table: pd.DataFrame
    gaps: pd.DataFrame
    differences: pd.DataFrame
    rates: pd.DataFrame
    odds: pd.DataFrame


def subgroups(
    predictions: Predictions,
    min_faces: int = MIN_FACES,
    draws: int = DRAWS,
    level: float = CONFIDENCE_LEVEL,
    seed: int = 0,
) -> Subgroups:
    """Compute every metric for every group of faces, and the differences between groups.

    Groups are made by every combination of labelled gender, labelled race, and age: the decade of an
    exact age, or the labelled age group. Metrics of a group of fewer than ``min_faces`` faces are
    missing. Intervals of fractions of faces are Wilson's by subject (:func:`.proportions.fractions`), all
    others come from bootstrap samples of whole subjects, drawn from all faces at once: percentiles, and
    for calibration errors of classes, which are larger in samples, the basic interval (Davison and
    Hinkley, chapter 5.2). DataError without any label of a predicted task.
    """
    scores = FaceScores.of(predictions)
    if not scores.names:
        raise DataError("subgroups need labels of a task that is predicted")
    found = list(face_groups(predictions))
    clusters = cluster_numbers(sampling_units(predictions.ids, predictions.subjects), len(predictions))
    points, drawn = resampled_metrics(
        scores, [group.rows for group in found], clusters, min_faces, draws, seed
    )
    errors, ends = _ends(scores, found, clusters, points, drawn, level)
    faces = [
        {kind: int(there[group.rows].sum()) for kind, there in labelled_faces(predictions).items()}
        for group in found
    ]
    subjects = [len(np.unique(clusters[group.rows])) for group in found]
    groups = Groups(found, scores.names, np.array(points), drawn, errors, ends, faces, subjects)
    rates = class_rates(predictions, found, clusters, min_faces, level)
    return Subgroups(
        pd.DataFrame(_rows(groups, min_faces)),
        gaps(groups, level),
        to_overall(groups, level),
        rates,
        equalised_odds(predictions, found, clusters, min_faces, draws, level, seed),
    )


def _ends(
    scores: FaceScores,
    groups: list[Group],
    clusters: npt.NDArray[np.int64],
    points: list[Floats],
    drawn: list[Floats],
    level: float,
) -> tuple[Floats, Floats]:
    """Return least standard errors ``(groups, metrics)`` and intervals ``(groups, metrics, 2)``."""
    errors = np.zeros((len(groups), len(scores.names)))
    ends = np.full((*errors.shape, 2), np.nan)
    shares = scores.fractions()
    columns = np.array([scores.names.index(name) for name in shares], np.int64)
    for number, group in enumerate(groups):
        for column, name in enumerate(scores.names):
            if np.isfinite(point := points[number][column]) and name not in shares:
                low, high = interval(drawn[number][:, column], level)
                basic = max(0.0, 2 * point - high), max(point, 2 * point - low)
                ends[number, column] = basic if name in BIASED else (low, high)
        if not np.isfinite(points[number]).any():
            continue
        found = fractions(scores.per_face[np.ix_(group.rows, columns)], clusters[group.rows], level)
        errors[number, columns] = found.error
        ends[number, columns] = np.stack([found.low, found.high], axis=1)
    return errors, ends


def _rows(groups: Groups, min_faces: int) -> Iterator[dict[str, Any]]:
    tasks = list(dict.fromkeys(METRIC_BY_NAME[name].task for name in groups.names))
    for number, group in enumerate(groups.groups):
        faces, subjects = groups.faces[number], groups.subjects[number]
        row: dict[str, Any] = {"by": group.by, **{name: group.names.get(name, "") for name in DIMENSIONS}}
        row |= {"faces": len(group.rows), "subjects": subjects}
        row |= {f"{task}_faces": faces[task] for task in tasks}
        for column, name in enumerate(groups.names):
            value = groups.points[number, column]
            known = np.isfinite(value) and subjects >= MIN_CLUSTERS
            low, high = groups.ends[number, column] if known else (np.nan, np.nan)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        least = min_faces if group.names else 1
        few = [task for task in tasks if faces[task] < least]
        row["note"] = _note(few, tasks, subjects, least)
        yield row


def _note(few: list[str], tasks: list[str], subjects: int, min_faces: int) -> str:
    """Return what is missing in a row and why; an empty text if nothing is."""
    least = f"fewer than {pluralize(min_faces, 'face')}"
    if few == tasks:
        return f"no metrics: {least}"
    notes = [f"no metrics of {', '.join(few)}: {least} with that label"] if few else []
    if subjects < MIN_CLUSTERS:
        notes.append(f"no intervals: fewer than {MIN_CLUSTERS} subjects")
    return "; ".join(notes)
