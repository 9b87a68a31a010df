"""Mapping between the classes of a dataset and those of a model."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class ClassMapping:
    """Maps the classes of a dataset to those of a model by name.

    Classes that exist on one side only are masked: labels of classes that the model lacks are ignored, and
    classes that the data lacks are never predicted.

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
        """Return labels ``(N,)`` as indices of the model's classes; unknown classes become -1."""
        if self.data == self.model:
            return labels
        renumbered = torch.full_like(labels, -1)
        for name in self.common:  # a lookup table would wait for its copy to the device
            renumbered = torch.where(labels == self.data.index(name), self.model.index(name), renumbered)
        return renumbered

    def logits(self, logits: Tensor) -> Tensor:
        """Set the absent classes in logits ``(N, classes)`` to -inf, unless all are absent."""
        if not self.absent or not self.common:
            return logits
        masked = logits.clone()
        for name in self.absent:
            masked[:, self.model.index(name)] = -torch.inf
        return masked


def masked_classes(
    mappings: Mapping[str, ClassMapping], labels: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, Any]]:
    """Return the masked classes of each task, from its mapping and the class indices of a part's faces.

    Returns:
        By task: the number of faces of each class that the model lacks, which are not evaluated
        (``unknown``), and the classes that the data lacks, which are never predicted (``absent``). Tasks
        with equal classes are omitted.
    """
    masked = {}
    for task, mapping in mappings.items():
        if mapping.data and mapping.data != mapping.model:
            indices = list(labels[task])
            counts = {name: indices.count(mapping.data.index(name)) for name in mapping.unknown}
            masked[task] = {"unknown": counts, "absent": list(mapping.absent)}
    return masked


def warn_masked(masked: Mapping[str, Mapping[str, Any]], dataset: str, part: str, faces: int) -> None:
    """Warn about the classes that :func:`masked_classes` returned for a part of a dataset."""
    for task, of_task in masked.items():
        for name, count in of_task["unknown"].items():
            log.warning(
                "%s: the checkpoint has no class %s: %d of %d %s faces are not evaluated",
                task, name, count, faces, part,
            )  # fmt: skip
        if of_task["absent"]:
            absent = ", ".join(of_task["absent"])
            log.warning("%s: %s has no %s: not predicted in this evaluation", task, dataset, absent)
