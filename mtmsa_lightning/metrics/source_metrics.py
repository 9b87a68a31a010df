"""Metrics of validation and test for every source of a mixture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mtmsa_lightning.metrics.stage_metrics import StageMetrics


class SourceFaces(NamedTuple):
    """The faces of a source in a batch, and its metrics."""

    metrics: StageMetrics
    number: int
    faces: Tensor


class SourceMetrics(nn.Module):
    """The metrics of every source, beside those of all faces.

    Args:
        names: Names of the sources.
        build: Builds the metrics of one.
    """

    def __init__(self, names: Sequence[str], build: Callable[[], StageMetrics]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.each = nn.ModuleList(build() for _ in names)
        self._source: dict[str, Tensor] = {}

    def follow(self, stage: str, source: Tensor, labels: Sequence[set[str]]) -> None:
        """Set the source of every row of a stage, by number, and the kinds of label that each source has."""
        self._source[stage] = source
        for metrics, kinds in zip(self._all(), labels, strict=True):
            metrics.labels[stage] = kinds

    def in_batch(self, stage: str, index: Tensor) -> Iterator[SourceFaces]:
        """Yield the metrics of every source with the mask of its faces, ``(N,)``, by the rows of a batch."""
        if stage in self._source:
            rows = self._source[stage] = self._source[stage].to(index.device)
            for number, metrics in enumerate(self._all()):
                yield SourceFaces(metrics, number, rows[index] == number)

    def logged(self, stage: str) -> Iterator[tuple[str, Metric]]:
        """Yield the metrics of a stage by their name, ``<source>/<metric>``."""
        for name, metrics in zip(self.names, self._all(), strict=True):
            of_stage = metrics.of(stage) if stage in self._source else {}
            yield from ((f"{name}/{key}", of_stage[key]) for key in metrics.logged(stage) if key in of_stage)

    def _all(self) -> list[StageMetrics]:
        every: Any = self.each
        return list(every)


def only(batch: Mapping[str, Any], faces: Tensor) -> dict[str, Any]:
    """Return a batch without the labels of all other faces."""
    ages = {key: batch[key].masked_fill(~faces, torch.nan) for key in ("age_low", "age_high")}
    classes = {key: batch[key].masked_fill(~faces, -1) for key in ("gender", "race")}
    return {**batch, **ages, **classes}
