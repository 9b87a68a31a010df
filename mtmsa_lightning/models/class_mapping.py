"""Matching the classes of a dataset with those of a model that was trained on another."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class ClassMapping:
    """How the classes of a dataset and of a model go together: by name.

    Classes that one side lacks are masked: a label that the model does not know is not counted, and a class
    that the data does not have is never the answer.

    Args:
        data: Class names of the data in index order.
        model: Class names of the model in index order.

    Attributes:
        unknown: Classes of the data that the model lacks.
        absent: Classes of the model that the data lacks.
        common: Classes of both, in the model's order.
    """

    def __init__(self, data: Sequence[str], model: Sequence[str]) -> None:
        self.data, self.model = tuple(data), tuple(model)
        self.unknown = tuple(name for name in self.data if name not in self.model)
        self.absent = tuple(name for name in self.model if name not in self.data)
        self.common = tuple(name for name in self.model if name in self.data)

    def labels(self, labels: Tensor) -> Tensor:
        """Renumber labels ``(N,)`` as the model's classes; -1 stays, and unknown ones become -1."""
        if self.data == self.model:
            return labels
        renumbered = torch.full_like(labels, -1)
        for index, name in enumerate(self.data):  # not by a table, which would wait until it is on the device
            if name in self.model:
                renumbered = torch.where(labels == index, self.model.index(name), renumbered)
        return renumbered

    def logits(self, logits: Tensor) -> Tensor:
        """Mask the absent classes in logits ``(N, classes)`` by -inf, unless all are absent."""
        if not self.absent or not self.common:
            return logits
        masked = logits.clone()
        for name in self.absent:
            masked[:, self.model.index(name)] = -torch.inf
        return masked


def masked_classes(
    mappings: Mapping[str, ClassMapping], labels: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, Any]]:
    """Return what is masked where data and model have other classes, as plain values.

    Args:
        mappings: Mappings by task.
        labels: Class indices of the faces of a part, by task.

    Returns:
        By task: number of faces that are not evaluated, by their class that the model does not know
        (``unknown``), and the classes that the data does not have, which are never predicted (``absent``);
        empty if nothing is masked.
    """
    masked = {}
    for task, mapping in mappings.items():
        if mapping.data and mapping.data != mapping.model:
            indices = list(labels[task])
            counts = {name: indices.count(mapping.data.index(name)) for name in mapping.unknown}
            masked[task] = {"unknown": counts, "absent": list(mapping.absent)}
    return masked


def warn_masked(masked: Mapping[str, Mapping[str, Any]], dataset: str, part: str, faces: int) -> None:
    """Warn of what :func:`masked_classes` returned for a part of a dataset with a number of faces."""
    for task, of_task in masked.items():
        for name, count in of_task["unknown"].items():
            log.warning(
                "%s: the checkpoint does not know %s: %d of %d %s faces are not evaluated",
                task, name, count, faces, part,
            )  # fmt: skip
        if of_task["absent"]:
            absent = ", ".join(of_task["absent"])
            log.warning("%s: %s has no %s: the checkpoint cannot predict it", task, dataset, absent)
