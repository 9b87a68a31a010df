"""Confusion of predicted gender and race by group, and the equalised-odds difference."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.evaluation.face_groups import DIMENSIONS, Group
from mtmsa_lightning.evaluation.predictions import ClassPredictions, Predictions
from mtmsa_lightning.evaluation.proportions import fractions
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, Floats, bootstrap_weights, divide
from mtmsa_lightning.evaluation.simultaneous import Family, largest_difference
from mtmsa_lightning.metrics.base import predicted_classes

Rows = npt.NDArray[np.int64]

RATE_COLUMNS = [
    "by", *DIMENSIONS, "task", "label", "predicted", "faces", "count", "share", "low", "high", "note",
]  # fmt: skip
ODDS_COLUMNS = [
    "task", "by", "groups", "label", "predicted", "difference", "difference_low", "difference_high",
    "group_max", "group_max_name", "group_max_faces", "group_min", "group_min_name", "group_min_faces",
]  # fmt: skip


def _heads(predictions: Predictions) -> Iterator[tuple[str, ClassPredictions, Rows, Rows]]:
    """Yield task, head, target and predicted class of the heads with labels."""
    for task, head in (("gender", predictions.gender), ("race", predictions.race)):
        if head is not None and (head.target >= 0).any():
            yield task, head, head.target.numpy(), predicted_classes(head.probs).numpy()


def class_rates(
    predictions: Predictions, groups: list[Group], clusters: Rows, min_faces: int, level: float
) -> pd.DataFrame:
    """Return the confusion matrices of every group: a row per group, task, label and predicted class.

    ``share`` is the fraction of the label's ``faces`` that were predicted as the class, with its interval
    ``low`` to ``high`` (:func:`.proportions.fractions`). Both are missing for fewer than ``min_faces`` faces
    of the label, and the interval for too few subjects; ``note`` tells which.
    """
    rows: list[dict[str, Any]] = []
    for task, head, target, predicted in _heads(predictions):
        chosen = (predicted[:, None] == np.arange(len(head.names))).astype(np.float64)
        for group in groups:
            for label in np.unique(target[group.rows][target[group.rows] >= 0]).tolist():
                faces = group.rows[target[group.rows] == label]
                few = len(faces) < (min_faces if group.names else 1)
                alone = not few and len(np.unique(clusters[faces])) < MIN_CLUSTERS
                found = None if few else fractions(chosen[faces], clusters[faces], level)
                note = f"fewer than {MIN_CLUSTERS} subjects" if alone else ""
                note = f"fewer than {min_faces} faces" if few else note
                for column, name in enumerate(head.names):
                    share, low, high = (
                        (np.nan,) * 3 if found is None else (each[column] for each in found[:3])
                    )
                    rows.append({
                        "by": group.by, **group.labels(), "task": task,
                        "label": head.names[label], "predicted": name, "faces": len(faces),
                        "count": int(chosen[faces, column].sum()),
                        "share": share, "low": np.nan if alone else low, "high": np.nan if alone else high,
                        "note": note,
                    })  # fmt: skip
    return pd.DataFrame(rows, columns=RATE_COLUMNS)


def equalised_odds(
    predictions: Predictions,
    groups: list[Group],
    clusters: Rows,
    min_faces: int,
    draws: int,
    level: float,
    seed: int,
) -> pd.DataFrame:
    """Return the equalised-odds difference of each class head and division that it is not itself part of.

    The largest difference between two groups of the rate at which faces of one label are predicted as one
    class, over all labels and classes; with two classes it is the larger of the differences of true positive
    and of false positive rates (Hardt, Price and Srebro, "Equality of opportunity in supervised learning",
    NeurIPS 2016; fairlearn's ``equalized_odds_difference``). The rate is that of ``label`` and ``predicted``.
    A group is compared in the rates of labels of which it has ``min_faces`` faces and enough subjects; the
    interval is corrected for all pairs of groups and all rates (:func:`.simultaneous.largest_difference`).
    """
    rows = []
    for task, head, target, predicted in _heads(predictions):
        for by in dict.fromkeys(group.by for group in groups if group.names):
            if task in by.split(" x "):
                continue
            members = [group for group in groups if group.by == by]
            cells = list(_rates(members, head, target, predicted, clusters, min_faces, draws, level, seed))
            if not cells:
                continue
            found = largest_difference([family for _, _, family in cells], level)
            place, kept, family = cells[found.family]
            row: dict[str, Any] = {"task": task, "by": by, "groups": len(kept)}
            row |= {"label": head.names[place[0]], "predicted": head.names[place[1]]}
            row |= {"difference": found.value, "difference_low": found.low}
            row |= {"difference_high": min(1.0, found.high)}
            for end, position in (("group_max", found.highest), ("group_min", found.lowest)):
                faces = int((target[kept[position].rows] == place[0]).sum())
                row |= {end: family.estimates[position], f"{end}_name": kept[position].name}
                row |= {f"{end}_faces": faces}
            rows.append(row)
    return pd.DataFrame(rows, columns=ODDS_COLUMNS)


def _rates(
    groups: list[Group],
    head: ClassPredictions,
    target: Rows,
    predicted: Rows,
    clusters: Rows,
    min_faces: int,
    draws: int,
    level: float,
    seed: int,
) -> Iterator[tuple[tuple[int, int], list[Group], Family]]:
    """Yield the rates of each label and predicted class of the groups that have enough faces of the label."""
    chosen = (predicted[:, None] == np.arange(len(head.names))).astype(np.float64)
    for label in range(len(head.names)):
        faces = [group.rows[target[group.rows] == label] for group in groups]
        enough = [
            number
            for number, rows in enumerate(faces)
            if len(rows) >= max(1, min_faces) and len(np.unique(clusters[rows])) >= MIN_CLUSTERS
        ]
        if len(enough) < 2:
            continue
        samples: list[list[Floats]] = [[] for _ in enough]
        for weights in bootstrap_weights(int(clusters.max()) + 1, draws, seed):
            for number, drawn in zip(enough, samples, strict=True):
                times = weights[:, clusters[faces[number]]]
                drawn.append(divide(times @ chosen[faces[number]], times.sum(1, keepdims=True)))
        stacked = np.stack([np.concatenate(drawn) for drawn in samples], axis=1)
        points = [fractions(chosen[faces[number]], clusters[faces[number]], level) for number in enough]
        kept = [groups[number] for number in enough]
        for column in range(len(head.names)):
            values, errors = (np.array([each[part][column] for each in points]) for part in (0, 3))
            yield (label, column), kept, Family(values, stacked[:, :, column], errors)
