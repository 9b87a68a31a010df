"""Confusion matrix of age groups."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.labels import AGE_GROUP_EDGES, AGE_GROUPS
from mtmsa_lightning.metrics.age_groups import GroupAccuracy


def group_confusion(predictions: Predictions) -> Tensor:
    """Count labelled faces by the cell of their label (rows) and the predicted one, int64 ``(8, 8)``."""
    assert predictions.age is not None
    low, high = predictions.age_low, predictions.age_high
    decided, label = GroupAccuracy().cells(predictions.age, low, high)
    known = ~(low + high).isnan() & (decided >= 0)
    size = len(AGE_GROUP_EDGES) + 1
    return torch.bincount((label * size + decided)[known], minlength=size**2).view(size, size)


def group_names(predictions: Predictions) -> tuple[str, ...]:
    """Return the names of the groups: the labelled groups, or with exact labels the ages of each cell."""
    if predictions.labelled()["exact"]:
        first = [0, *(math.floor(edge) + 1 for edge in AGE_GROUP_EDGES)]
        return (*(f"{low}-{above - 1}" for low, above in pairwise(first)), f"{first[-1]}+")
    return tuple(f"{low}-{high}" for low, high in AGE_GROUPS)
