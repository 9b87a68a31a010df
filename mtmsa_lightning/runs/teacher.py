"""Teachers: trained networks whose predictions a network learns beside the labels."""

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtmsa_lightning.labels import class_key
from mtmsa_lightning.losses.distillation import soft_label_loss
from mtmsa_lightning.losses.weighting import TaskLosses

log = logging.getLogger(__name__)

YEARS = (0, 110)
"""First and last year of soft labels for an age head that predicts any age."""


class Teacher:
    """An ensemble of trained networks: the mean of their calibrated predictions is a soft label.

    It predicts the images that its student is trained with, resized to the input of each network. The
    optimiser does not change it, and checkpoints do not hold it.

    Args:
        networks: One or more networks in evaluation mode, by path.
        student: The network that learns. It learns ages if it and all networks have an age head, and gender
            or race if all networks were trained on all of its classes; warnings name what is skipped.
    """

    def __init__(self, networks: Mapping[str, Any], student: Any) -> None:
        self.networks = [network.requires_grad_(False).eval() for network in networks.values()]
        self.provenances = {path: network.provenance for path, network in networks.items()}
        self.ages = student.age is not None and all(network.age is not None for network in self.networks)
        self.edges = _year_edges(student.age) if self.ages else []
        self.columns: dict[str, tuple[list[int], list[list[int]]]] = {}
        for task in ("gender", "race"):
            if getattr(student, task) is not None:
                classes = getattr(student, f"{task}_classes")
                mapping = student.class_mappings.get(task)
                self._match(task, classes, mapping.common if mapping and mapping.common else classes)
        if student.age is not None and not self.ages:
            log.warning("model.teacher: not all have an age head: ages are learnt from the labels alone")
        crops = {network.crop for network in self.networks} - {student.crop}
        if crops:
            log.warning("model.teacher: trained on crops of %s, these are of %s", min(crops), student.crop)

    def _match(self, task: str, classes: Sequence[str], learnt: Sequence[str]) -> None:
        """Set the columns of the ``learnt`` classes, in the student's logits and in those of each network."""
        columns = []
        for network in self.networks:
            found = {class_key(name) for name in network.trained_classes.get(task, ())}
            names = [class_key(name) for name in getattr(network, f"{task}_classes")]
            missing = [name for name in learnt if class_key(name) not in found]
            if missing:
                log.warning(
                    "model.teacher: no %s %s in one of its networks: %s is learnt from the labels alone",
                    task, ", ".join(missing), task,
                )  # fmt: skip
                return
            columns.append([names.index(class_key(name)) for name in learnt])
        self.columns[task] = [classes.index(name) for name in learnt], columns

    def to(self, device: torch.device) -> None:
        """Move the networks to a device."""
        for network in self.networks:
            network.to(device)

    def losses(self, output: Any, images: Tensor) -> TaskLosses:
        """Return (sum, count) of the student's divergence from the soft labels, by task.

        Args:
            output: The student's predictions for the images.
            images: Faces as for the network, ``(N, 3, height, width)``.
        """
        predictions = [self._predict(network, images) for network in self.networks]
        found: TaskLosses = {}
        if self.ages:
            target = _mean([each.age.group_probs(self.edges) for each in predictions])
            log_probs = [output.age.log_interval_prob(*cell) for cell in _cells(self.edges)]
            found["age"] = soft_label_loss(torch.stack(log_probs, dim=1), target)
        for task, (columns, of_networks) in self.columns.items():
            logits = [getattr(each, task)[:, own] for each, own in zip(predictions, of_networks, strict=True)]
            target = _mean([each.double().softmax(1) for each in logits])
            found[task] = soft_label_loss(getattr(output, task).double()[:, columns].log_softmax(1), target)
        return found

    @staticmethod
    @torch.no_grad()
    def _predict(network: Any, images: Tensor) -> Any:
        if images.shape[-1] != network.image_size:
            pixels = images if images.is_floating_point() else images.float() / 255
            size = (network.image_size, network.image_size)
            images = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return network.calibrated(network(images))


def _year_edges(head: Any) -> list[float]:
    """Return the edges between the years of soft labels; the first and the last year are open."""
    first, last = head.year_range or YEARS
    return [year + 0.5 for year in range(first, last)]


def _cells(edges: Sequence[float]) -> Sequence[tuple[float, float]]:
    return list(pairwise([-math.inf, *edges, math.inf]))


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(0)
