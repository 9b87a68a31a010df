"""Write the report on predictions that another program made for the test faces of a dataset."""

import logging
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.folders import is_empty, locked
from mtmsa_lightning.data.baselines import constant_age_mae
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.splits.split_file import sha256_of
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.evaluation.external.reading import ExternalPredictions, read_external
from mtmsa_lightning.evaluation.face_labels import face_labels
from mtmsa_lightning.reports.report import write_report
from mtmsa_lightning.reports.report_context import ReportContext
from mtmsa_lightning.reports.report_options import DEFAULT_OPTIONS, ReportOptions
from mtmsa_lightning.runs.directory import BEGINNING
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.build_data import build_data
from mtmsa_lightning.training.callbacks.run_record import places_of, versions
from mtmsa_lightning.training.report_record import finish_report

log = logging.getLogger(__name__)


def score(
    file: Path,
    data_args: Sequence[str],
    columns: Mapping[str, str | None],
    least: float,
    out: Path | None = None,
    faces: bool = True,
    options: ReportOptions = DEFAULT_OPTIONS,
) -> None:
    """Match predictions with the test faces of a dataset and write their report.

    Args:
        file: The predictions, see :func:`.external.reading.read_external`.
        data_args: The dataset, as arguments of ``mtmsa fit``.
        columns: Our names of columns to those of the file.
        least: Smallest fraction of the test faces that must have a prediction.
        out: Folder of the report; by default ``<file>-evaluation`` beside the file.
        faces: Whether the page shows photos.
        options: What else the user chose for the report.

    Raises:
        DataError: The predictions cannot be read or match too few faces.
        ConfigError: The folder holds something else, or the test part is empty.
    """
    folder = (out or file.with_name(f"{file.stem}-evaluation")).absolute()
    _refuse_to_lose(folder)
    data = build_data(data_args)
    data.prepare_data()
    data.setup("test")
    if not len(data.test_dataset):
        raise ConfigError(f"the test part of {data.name} is empty: choose another --data.protocol")
    labels = face_labels(data.test_dataset.table, data, joined="dataset" in data.test_dataset.table)
    frame = data.table.frame
    read = read_external(file, columns, labels, frame, data.race_classes, least)
    for note in read.notes():
        log.info("%s", note)
    with locked(folder, "mtmsa evaluate", worthless=BEGINNING):
        record = _record(file, data, read)
        images = data.test_dataset.image_of if faces else None
        context = _context(file, record, read)
        metrics = write_report(read.table, folder, context, images, options=options)
        _warn_if_worse(metrics["scalars"].get("age_mae"), record["constant_age_mae"])
        finish_report(folder, record, metrics)


def _refuse_to_lose(folder: Path) -> None:
    """Raise ConfigError if a folder holds anything but an older report on predictions of another program."""
    if not is_empty(folder) and "matching" not in read_record(folder):
        raise ConfigError(f"{folder} holds other files: choose another folder with --out")


def _record(file: Path, data: FaceDataModule, read: ExternalPredictions) -> dict[str, Any]:
    guess = constant_age_mae(data.train_dataset.table, data.test_dataset.table)
    return {
        "name": file.stem,
        "predictions": {"file": file.name, "sha256": sha256_of(file)},
        "matching": read.record(),
        "data": data.provenance(),
        "places": places_of(data),
        "constant_age_mae": None if math.isnan(guess) else guess,
        "versions": versions(),
        "command": shlex.join(sys.argv),
        "started": datetime.now().isoformat(timespec="seconds"),
    }


def _warn_if_worse(mae: float | None, guess: float | None) -> None:
    """Warn if one age for all faces is better than the predictions, which may then not be in years."""
    if mae is not None and guess is not None and mae > guess:
        log.warning(
            "the age MAE of %.2f years is worse than the %.2f years of guessing one age for all faces: check "
            "the column of ages, its unit and the matching", mae, guess,
        )  # fmt: skip


def _context(file: Path, record: dict[str, Any], read: ExternalPredictions) -> ReportContext:
    guess, data = record["constant_age_mae"], record["data"]
    notes = [] if guess is None else [f"Guessing one age for all faces gives an age MAE of {guess:.2f}."]
    return ReportContext(
        title=file.stem,
        data=data | {"subjects_in_two_parts": None},  # whether the program was trained on them is unknown
        checkpoint="",
        versions=record["versions"],
        command=record["command"],
        predictions=f"{file.name}, SHA-256 {record['predictions']['sha256'][:16]}",
        partial=f"of {len(read.table):,} of {read.faces:,} faces" if read.missing else "",
        notes=(*notes, *read.notes(), *data["notes"], _UNKNOWN_TRAINING),
    )


_UNKNOWN_TRAINING = (
    "Another program made these predictions: what it was trained on is not known here, and could include "
    "these faces."
)
