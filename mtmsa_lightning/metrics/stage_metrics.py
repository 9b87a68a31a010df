"""Losses and metrics of training, validation and test."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mtmsa_lightning.metrics.base import PlotMetric
from mtmsa_lightning.metrics.suite import AgeGroups, metric_specs

Stage = Literal["train", "val", "test"]

STAGES: tuple[Stage, ...] = ("train", "val", "test")


class TaskLoss(PlotMetric):
    """Mean loss from (sum, count) pairs, exact for uneven batches and ranks; NaN without labels."""

    loss_sum: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss_sum: Tensor, count: Tensor) -> None:
        """Add the sum of the losses of labelled faces, and their number or sum of class weights, scalars."""
        self.loss_sum += loss_sum.detach()
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean, a float64 scalar."""
        return self.loss_sum / self.count


class StageMetrics(nn.Module):
    """The losses and metrics (:data:`.suite.METRICS`) of a model, by stage.

    Args:
        classes: Number of classes of every head that exists, by task; 0 for ``age``.
        groups: Age groups that are also predicted, as inclusive (low, high) pairs in years; True for those of
            ``labels.AGE_GROUPS``, False or empty for none.

    Attributes:
        labels: Kinds of label of the data by stage; a missing stage has all kinds.
    """

    def __init__(self, classes: Mapping[str, int], groups: bool | AgeGroups) -> None:
        super().__init__()
        self.tasks = tuple(classes)
        specs = metric_specs(classes, groups)
        losses = [f"{task}_loss" for task in self.tasks]
        self._needs = dict(zip(losses, self.tasks, strict=True)) | {spec.name: spec.needs for spec in specs}
        self._inputs = {name: name for name in losses} | {spec.name: spec.task for spec in specs}
        for stage in STAGES:
            metrics: dict[str, nn.Module] = {name: TaskLoss() for name in losses}
            for spec in specs:
                if spec.training or stage != "train":
                    metrics[spec.name] = spec.build(classes[spec.task])
            self.add_module(f"{stage}_metrics", nn.ModuleDict(metrics))
        self.labels: dict[str, set[str]] = {}

    def of(self, stage: str) -> dict[str, Metric]:
        """Return the metrics of a stage that have labels, by name."""
        metrics, labels = self.all_of(stage), self.labels.get(stage)
        return metrics if labels is None else {k: v for k, v in metrics.items() if self._needs[k] in labels}

    def all_of(self, stage: str) -> dict[str, Metric]:
        """Return all metrics of a stage, by name."""
        metrics: Any = getattr(self, f"{stage}_metrics")
        return dict(metrics.items())

    def logged(self, stage: str) -> list[str]:
        """Return the names under which a stage logs, the total ``loss`` included.

        Exact ages and age groups together have no common age loss: the two losses differ by a constant.
        """
        mixed = stage != "train" and {"exact", "group"} <= self.labels.get(stage, set())
        names = [*self.of(stage), "loss"]
        return [name for name in names if not (mixed and name in ("age_loss", "loss"))]

    @torch.no_grad()
    def update(self, stage: str, inputs: Mapping[str, tuple[Any, ...]]) -> None:
        """Add a batch: arguments of ``update`` by ``<task>_loss`` for losses, by task for other metrics."""
        for name, metric in self.of(stage).items():
            metric.update(*inputs[self._inputs[name]])

    @torch.no_grad()
    def mean_losses(self, stage: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the mean loss of each task so far, over all processes, and whether it has labels."""
        metrics = self.of(stage)
        every: dict[str, Any] = self.all_of(stage)
        losses = {task: every[f"{task}_loss"] for task in self.tasks}
        device = next(iter(losses.values())).device
        zero = torch.zeros((), device=device, dtype=torch.float64)
        present = {task: torch.tensor(f"{task}_loss" in metrics, device=device) for task in self.tasks}
        means = {task: losses[task].compute() if present[task] else zero for task in self.tasks}
        return means, present
