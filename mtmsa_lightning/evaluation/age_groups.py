"""Confusion matrix of age groups."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.labels import AGE_GROUPS, age_group_edges
from mtmsa_lightning.metrics.age_groups import GroupAccuracy


def group_confusion(predictions: Predictions) -> Tensor:
    """Count labelled faces by the group of their label (rows) and the predicted one, int64 ``(G, G)``."""
    assert predictions.age is not None
    low, high = predictions.age_low, predictions.age_high
    edges = age_group_edges(predictions.age_groups)
    decided, label = GroupAccuracy(edges).cells(predictions.age, low, high)
    known = ~(low + high).isnan() & (decided >= 0)
    size = len(edges) + 1
    return torch.bincount((label * size + decided)[known], minlength=size**2).view(size, size)


def group_names(predictions: Predictions) -> tuple[str, ...]:
    """Return the names of the groups: the labelled groups, or with exact labels the ages of each cell."""
    if predictions.labelled()["exact"]:
        first = [0, *(math.floor(edge) + 1 for edge in age_group_edges(predictions.age_groups))]
        return (*(f"{low}-{above - 1}" for low, above in pairwise(first)), f"{first[-1]}+")
    return tuple(f"{low}-{high}" for low, high in predictions.age_groups or AGE_GROUPS)
