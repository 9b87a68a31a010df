"""Per-image predictions with their ids, exact at any number of processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mtmsa_lightning.data.dataset import FaceBatch, FaceDataset
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.module import MTMSA, FaceOutput
from mtmsa_lightning.runs import write_table

SUFFIXES = (".csv", ".parquet")


def prediction_columns(model: MTMSA, output: FaceOutput) -> dict[str, np.ndarray[Any, Any]]:
    """Turn a batch of outputs into named columns.

    Args:
        model: The model that made them; it knows its class names.
        output: Outputs of N faces.

    Returns:
        Arrays of length N: those of the distribution of age (``age_mean, age_std``) and ``age_low90,
        age_high90`` in years (its central 90 %; of a calibrated model its conformal interval, beside those
        of the other levels), ``unsure`` where a calibration sets thresholds, ``group_<low>_<high>``,
        ``gender_<class>`` and ``race_<class>`` probabilities; only of heads that exist.
    """
    columns: dict[str, torch.Tensor] = {}
    if output.age is not None:
        low, high = output.age.interval(0.9)
        columns = output.age.columns() | {"age_low90": low, "age_high90": high}
        if model.calibration is not None and model.calibration.abstains:
            columns["unsure"] = model.calibration.unsure(output.age)
        if model.age_groups:
            probs = output.age.group_probs(AGE_GROUP_EDGES)
            columns |= {f"group_{low}_{high}": probs[:, i] for i, (low, high) in enumerate(model.age_groups)}
    for task, names in model.answers.items():
        probs = getattr(output, task).double().softmax(1)
        columns |= {f"{task}_{name}": probs[:, i] for i, name in enumerate(names)}
    return {name: _array(values) for name, values in columns.items()}


def _array(values: torch.Tensor) -> np.ndarray[Any, Any]:
    return (
        values.detach().cpu().numpy()
        if values.dtype == torch.bool
        else values.detach().double().cpu().numpy()
    )


class PredictionTable:
    """Collects the outputs of a stage, batch by batch, into one table: each face once, in table order.

    Args:
        labels: Put the labels beside the predictions, as ``label_age_low`` and so on.
    """

    def __init__(self, labels: bool = True) -> None:
        self.labels = labels
        self._parts: list[pd.DataFrame] = []

    def add(self, model: LightningModule, outputs: Any, batch: FaceBatch) -> None:
        """Keep a batch's predictions."""
        assert isinstance(model, MTMSA)
        counted = batch["counted"].cpu().numpy()
        columns = {"index": batch["index"].cpu().numpy()} | prediction_columns(model, outputs)
        self._parts.append(pd.DataFrame(columns)[counted])

    def take(self, trainer: Trainer, dataset: FaceDataset) -> pd.DataFrame:
        """Gather the parts of all processes, and forget them; every process calls this."""
        parts = _gather(pd.concat(self._parts, ignore_index=True), trainer)
        self._parts = []
        predictions = pd.concat(parts, ignore_index=True).sort_values("index", kind="stable")
        rows = predictions.pop("index").to_numpy()
        faces = dataset.table.iloc[rows].reset_index(drop=True)
        known = faces[["id", "path"]].rename(columns={"path": "file"})
        if self.labels:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            known = pd.concat([known, _labels(faces, data)], axis=1)
        return pd.concat([known, predictions.reset_index(drop=True)], axis=1)


class PredictionWriter(Callback):
    """Collects predictions in ``test`` or ``predict`` and writes one table, each face once, in table order.

    Args:
        file: A ``.parquet`` or ``.csv`` file; ``.../test.parquet`` of a run.
        labels: Write the labels beside the predictions, as ``label_age_low`` and so on.

    Raises:
        ConfigError: If the file's ending says no known format.
    """

    def __init__(self, file: Path, labels: bool = True) -> None:
        if file.suffix not in SUFFIXES:
            raise ConfigError(f"{file}: write predictions to a file ending in {' or '.join(SUFFIXES)}")
        self.file = file
        self.table = pd.DataFrame()
        self._collected = PredictionTable(labels)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: FaceBatch, *_: Any
    ) -> None:
        """Keep the batch's predictions."""
        self._collected.add(pl_module, outputs, batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: FaceBatch, *_: Any
    ) -> None:
        """Keep the batch's predictions."""
        self._collected.add(pl_module, outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the parts of all processes and write the table."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._write(trainer, data.test_dataset)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the parts of all processes and write the table."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._write(trainer, data.predict_dataset)

    def _write(self, trainer: Trainer, dataset: FaceDataset) -> None:
        self.table = self._collected.take(trainer, dataset)
        if trainer.is_global_zero:
            write_table(self.table, self.file)


def _labels(faces: pd.DataFrame, data: Any) -> pd.DataFrame:
    """Return the labels, classes by name, so that they mean the same beside any model."""
    labels = faces[["subject", "age_low", "age_high"]].rename(columns=lambda name: f"label_{name}")
    labels = labels.rename(columns={"label_subject": "subject"})
    for task, names in (("gender", data.gender_classes), ("race", data.race_classes)):
        labels[f"label_{task}"] = [names[index] if index >= 0 else "" for index in faces[task]]
    return labels


def _gather(part: pd.DataFrame, trainer: Trainer) -> list[pd.DataFrame]:
    if trainer.world_size == 1:
        return [part]
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, part)
    return parts
