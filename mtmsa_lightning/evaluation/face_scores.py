"""Scores of single faces, for metrics that are functions of a mean over faces."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torchmetrics import Metric

from mtmsa_lightning.evaluation.predictions import Predictions, read_predictions, read_table, with_texts
from mtmsa_lightning.evaluation.resampling import Floats
from mtmsa_lightning.metrics.base import predicted_classes
from mtmsa_lightning.metrics.masked_mean import MaskedMean
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME


def read_faces(file: Path) -> pd.DataFrame:
    """Read and check a table of predictions with labels; missing texts are empty."""
    table = read_table(file)
    read_predictions(table, str(file))
    return with_texts(table)


def face_scores(predictions: Predictions) -> pd.DataFrame:
    """Return the score of every face for every metric that is a function of a mean over faces.

    A column per metric that has any face, NaN where it skips the face.
    """
    age = predictions.age
    columns: dict[str, Floats] = {}
    for spec in predictions.metric_specs():
        metric = spec.build(0)
        if isinstance(metric, MaskedMean):
            assert age is not None
            votes = spec.task == "votes"
            low, high = (
                (predictions.votes_mean, predictions.votes_std)
                if votes
                else (predictions.age_low, predictions.age_high)
            )
            values, counted = metric.per_face(age, low, high)
            columns[spec.name] = torch.where(counted, values.double(), torch.nan).numpy()
    for task, head in (("gender", predictions.gender), ("race", predictions.race)):
        if head is not None:
            right = (predicted_classes(head.probs) == head.target).double()
            columns[f"{task}_acc"] = torch.where(head.target >= 0, right, torch.nan).numpy()
    return pd.DataFrame(columns, dtype="float64").dropna(axis="columns", how="all")


def metrics_of_means(names: Sequence[str], means: Floats) -> Floats:
    """Return K metrics from means of scores, ``(..., K)`` both, e.g. the root of a mean square."""
    values = np.array(means, np.float64)
    for column, name in enumerate(names):
        metric = _metric(name)
        if isinstance(metric, MaskedMean):
            values[..., column] = metric.of_mean(torch.from_numpy(np.array(values[..., column]))).numpy()
    return values


@cache
def _metric(name: str) -> Metric:
    """Build a metric once, of which only functions without state are called."""
    return METRIC_BY_NAME[name].build(2)
