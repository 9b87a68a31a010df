"""Matching the classes of a dataset with those of a model that was trained on another."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
