"""The metrics of several models by group of the same test faces, and their curves of the cumulative score."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.evaluation.comparison import Contender
from mtmsa_lightning.evaluation.face_groups import face_groups
from mtmsa_lightning.evaluation.face_scores import face_scores
from mtmsa_lightning.evaluation.folds import average_scores, clusters
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.proportions import fractions
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, Floats, bootstrap_means, interval
from mtmsa_lightning.metrics.base import CS_LIMIT
from mtmsa_lightning.settings.defaults import DRAWS, MIN_FACES

SHOWN = ("age_mae", "group_acc", "gender_acc", "race_acc")
"""Metrics by group."""


class ModelGroups(NamedTuple):
    """One model's part of a picture of several.

    Attributes:
        name: Name of the model.
        groups: A row per metric and group of all faces or of one label: ``metric``, ``group``, ``by``,
            ``faces``, ``value``, ``low``, ``high``.
        cumulative_score: Fraction of faces with an error of at most 0, 1, ... years; None without exact ages.
    """

    name: str
    groups: pd.DataFrame
    cumulative_score: Floats | None


def models_by_group(
    contenders: Sequence[Contender], min_faces: int = MIN_FACES, draws: int = DRAWS
) -> list[ModelGroups]:
    """Return metrics by group of every model, the mean over its seeds; groups of few faces are left out.

    Intervals are those of :func:`.subgroups.subgroups`; of means over several seeds percentiles only.
    """
    return [_of_model(each, min_faces, draws) for each in contenders]


def _of_model(contender: Contender, min_faces: int, draws: int) -> ModelGroups:
    faces, scores = average_scores(contender.tables)
    units = clusters(faces)
    rows = []
    for group in face_groups(read_predictions(faces)):
        if len(group.names) > 1:
            continue
        for metric in (name for name in SHOWN if name in scores):
            values = scores[metric].to_numpy()[group.rows]
            known = values[~np.isnan(values)]
            if len(known) < (min_faces if group.names else 1):
                continue
            low, high = _interval(values, units[group.rows], draws)
            rows.append({
                "metric": metric, "group": group.name, "by": group.by, "faces": len(known),
                "value": known.mean(), "low": low, "high": high,
            })  # fmt: skip
    columns = ["metric", "group", "by", "faces", "value", "low", "high"]
    return ModelGroups(contender.name, pd.DataFrame(rows, columns=columns), _cumulative_score(contender))


def _interval(values: Floats, units: npt.NDArray[np.str_], draws: int) -> tuple[float, float]:
    if len(np.unique(units)) < MIN_CLUSTERS:
        return np.nan, np.nan
    if np.isin(values[~np.isnan(values)], (0, 1)).all():
        found = fractions(values[:, None], units)
        return float(found.low[0]), float(found.high[0])
    return interval(bootstrap_means(values, units, draws))


def _cumulative_score(contender: Contender) -> Floats | None:
    """Return the curve, the mean over seeds."""
    scores = [face_scores(read_predictions(table)) for table in contender.tables]
    if not all("age_mae" in each for each in scores):
        return None
    years = np.arange(CS_LIMIT + 1)
    curves = [(each["age_mae"].dropna().to_numpy()[:, None] <= years).mean(0) for each in scores]
    mean: Floats = np.mean(curves, axis=0)
    return mean
