"""Tables of predictions with the ids of the faces, for any number of processes."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mtmsa_lightning._utils.atomic_write import write_table
from mtmsa_lightning.data.face_dataset import FaceBatch, FaceDataset
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.evaluation.face_labels import face_labels
from mtmsa_lightning.evaluation.prediction_columns import prediction_columns, to_arrays
from mtmsa_lightning.module import MTMSA

_AT_ONCE = 64
"""Batches whose predictions are kept on the device and copied together."""


class PredictionTable:
    """Collect the outputs of a stage in one table, with labels: each face once, in table order."""

    def __init__(self) -> None:
        self._parts: list[pd.DataFrame] = []
        self._waiting: list[dict[str, Tensor]] = []

    def add(self, model: LightningModule, outputs: Any, batch: FaceBatch) -> None:
        """Add a batch's predictions without synchronising the device."""
        assert isinstance(model, MTMSA)
        known = {"index": batch["index"], "valid": batch["valid"]}
        self._waiting.append(known | prediction_columns(model, outputs))
        if len(self._waiting) == _AT_ONCE:
            self._fetch()

    def _fetch(self) -> None:
        columns = to_arrays(self._waiting)
        valid = columns.pop("valid")
        self._parts.append(pd.DataFrame(columns)[valid])
        self._waiting = []

    def take(self, trainer: Trainer, dataset: FaceDataset) -> pd.DataFrame:
        """Return the table of all processes and start a new one; every process calls this."""
        if self._waiting:
            self._fetch()
        parts = _gather(pd.concat(self._parts, ignore_index=True), trainer)
        self._parts = []
        predictions = pd.concat(parts, ignore_index=True).sort_values("index", kind="stable")
        rows = predictions.pop("index").to_numpy()
        faces = dataset.table.iloc[rows].reset_index(drop=True)
        labels = face_labels(faces, trainer.datamodule, isinstance(dataset, JoinedDataset))  # type: ignore[attr-defined]
        return pd.concat([labels, predictions.reset_index(drop=True)], axis=1)


class PredictionWriter(Callback):
    """Write the predictions of ``test`` to a .parquet or .csv file, each face once, in table order."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.table = pd.DataFrame()
        self._collected = PredictionTable()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: FaceBatch, *_: Any
    ) -> None:
        """Add the batch's predictions."""
        self._collected.add(pl_module, outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all processes."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._write(trainer, data.test_dataset)

    def _write(self, trainer: Trainer, dataset: FaceDataset) -> None:
        self.table = self._collected.take(trainer, dataset)
        if trainer.is_global_zero:
            write_table(self.table, self.file)


def _gather(part: pd.DataFrame, trainer: Trainer) -> list[pd.DataFrame]:
    if trainer.world_size == 1:
        return [part]
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, part)
    return parts
