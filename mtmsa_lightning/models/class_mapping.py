"""Mapping between the classes of a dataset and those of a model."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtmsa_lightning.labels import class_key

log = logging.getLogger(__name__)


class ClassMapping:
    """Maps the classes of a dataset to those of a model by name (``labels.class_key``), both in index order.

    Labels of classes that the model lacks (``unknown``) are ignored, and classes that the data lacks
    (``absent``) are never predicted; a class without a training face, not in ``trained``, counts as one that
    the model lacks. ``common`` classes are in the model's order. ``learnt`` are the indices of the classes
    with training faces, None if all have some.
    """

    def __init__(
        self, data: Sequence[str], model: Sequence[str], trained: Sequence[str] | None = None
    ) -> None:
        self.data, self.model = tuple(data), tuple(model)
        learnt = trained_only(self.model, trained)
        self._index = {class_key(name): self.model.index(name) for name in learnt}
        self.learnt = None if learnt == self.model else tuple(self._index.values())
        keys = {class_key(name) for name in self.data}
        self.unknown = tuple(name for name in self.data if class_key(name) not in self._index)
        self.absent = tuple(name for name in learnt if class_key(name) not in keys)
        self.common = tuple(name for name in learnt if class_key(name) in keys)
        self._same = self.common == self.model and [*map(class_key, data)] == [*map(class_key, model)]

    def labels(self, labels: Tensor) -> Tensor:
        """Return labels ``(N,)`` as indices of the model's classes; unknown classes become -1."""
        if self._same:
            return labels
        renumbered = torch.full_like(labels, -1)
        for index, name in enumerate(self.data):  # a lookup table would wait for its copy to the device
            if class_key(name) in self._index:
                renumbered = torch.where(labels == index, self._index[class_key(name)], renumbered)
        return renumbered

    def any_common(self, labels: Iterable[int]) -> bool:
        """Return whether a label, a class index of the data, is of a common class."""
        keys = {class_key(self.data[index]) for index in set(labels) if index >= 0}
        return not keys.isdisjoint(map(class_key, self.common))

    def logits(self, logits: Tensor) -> Tensor:
        """Set all but the common classes in logits ``(N, classes)`` to -inf, unless none is common."""
        if not self.common or self.common == self.model:
            return logits
        masked = logits.clone()
        for index, name in enumerate(self.model):
            if name not in self.common:
                masked[:, index] = -torch.inf
        return masked


def trained_only(names: Sequence[str], trained: Sequence[str] | None) -> tuple[str, ...]:
    """Return the class names that had training faces, in the same order; all if that is not known."""
    keys = None if trained is None else {class_key(name) for name in trained}
    return tuple(name for name in names if keys is None or class_key(name) in keys)


def masked_classes(
    mappings: Mapping[str, ClassMapping], labels: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, Any]]:
    """Return the masked classes of each task, from its mapping and the class indices of a part's faces.

    By task with different classes: the number of faces of each ``unknown`` class, and the ``absent`` ones.
    """
    masked = {}
    for task, mapping in mappings.items():
        if mapping.data and (mapping.unknown or mapping.absent):
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


def warn_untrained(
    trained: Mapping[str, Sequence[str]], classes: Mapping[str, Sequence[str]], tasks: Sequence[str]
) -> None:
    """Warn about classes without a training face, for tasks that have labels."""
    for task, names in classes.items():
        missing = [name for name in names if name not in trained_only(names, trained[task])]
        if task in tasks and trained[task] and missing:
            log.warning(
                "%s: no training face is %s: not trained and never predicted", task, " or ".join(missing)
            )
