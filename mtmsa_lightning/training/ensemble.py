"""Evaluate several networks as one mixture and write the report."""

import logging
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mtmsa_lightning._utils.devices import choose_accelerator
from mtmsa_lightning._utils.folders import is_empty, locked
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.overlap import check_overlap
from mtmsa_lightning.data.preprocessing_check import preprocessing_of, warn_preprocessing
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.evaluation.face_labels import face_labels
from mtmsa_lightning.evaluation.prediction_columns import prediction_columns, to_arrays
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.reports.report import write_report
from mtmsa_lightning.reports.report_context import ReportContext
from mtmsa_lightning.reports.report_options import DEFAULT_OPTIONS, ReportOptions
from mtmsa_lightning.runs.checkpoints import weights_digest
from mtmsa_lightning.runs.directory import BEGINNING
from mtmsa_lightning.runs.ensemble import Ensemble, load_networks
from mtmsa_lightning.runs.ensemble_folder import folder_of_results
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.calibrating import datamodule_of
from mtmsa_lightning.training.callbacks.run_record import places_of, versions
from mtmsa_lightning.training.report_record import finish_report
from mtmsa_lightning.training.stressing import check_stress, estimate_stressed

log = logging.getLogger(__name__)


def evaluate_ensemble(
    ckpt_paths: Sequence[str],
    data_args: Sequence[str] = (),
    out: Path | None = None,
    faces: bool = True,
    stress: Sequence[str] = (),
    accelerator: str = "auto",
    allow_overlap: bool = False,
    options: ReportOptions = DEFAULT_OPTIONS,
) -> None:
    """Test networks as one mixture, see :class:`.Ensemble`, and write its report.

    Args:
        ckpt_paths: The networks, at least two, or the folder of an ensemble.
        data_args: The data, as arguments of ``mtmsa fit``; by default that of the first network's run.
        out: Folder of the report; by default ``evaluation-ensemble`` in the first network's run, or in the
            folder of the ensemble.
        faces: Whether the page shows photos.
        stress: Names of the changes of photos to evaluate too.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        allow_overlap: Test on faces that a network was trained on, with a warning.
        options: What else the user chose for the report.

    Raises:
        ConfigError: The networks differ in what must be equal, or the folder holds something else.
        OverlapError: A network was trained on test faces.
    """
    folder = (out or folder_of_results(ckpt_paths) / "evaluation-ensemble").absolute()
    if not is_empty(folder) and "ensemble" not in read_record(folder):
        raise ConfigError(f"{folder} holds other files: choose another folder with --out")
    model = load_networks(ckpt_paths, MTMSA.load)
    assert isinstance(model, Ensemble)
    device = torch.device(choose_accelerator(accelerator))
    model = model.to(device).eval()
    log.info("%s", model.describe())
    first = model.members[0]
    preparation = (first.provenance or {}).get("preparation")
    data = datamodule_of(model.paths[0], data_args, dict(first.hparams) | {"preparation": preparation})
    data.prepare_data()
    data.setup("test")
    if stress:
        check_stress(model, data)
    overlap = _check(model, data, allow_overlap)
    with locked(folder, "mtmsa evaluate", worthless=BEGINNING):
        table = predictions_of(model, data)
        log.info("%s", "\n".join(describe_spread(table)))
        record = _record(model, data, overlap)
        images = data.test_dataset.image_of if faces else None
        changed = estimate_stressed(model, data, stress, device, faces) if stress else None
        notes = (*describe_spread(table), *overlap, *record["data"]["notes"])
        context = _context(model, record, notes)
        metrics = write_report(table, folder, context, images, stress=changed, options=options)
        finish_report(folder, record, metrics)


def _check(model: Ensemble, data: FaceDataModule, allow_overlap: bool) -> list[str]:
    """Check overlap and preprocessing for every network, and return the warnings on overlap."""
    if not len(data.test_dataset):
        raise ConfigError(f"the test part of {data.name} is empty: choose another --data.protocol")
    found = []
    for network in model.members:
        warn_preprocessing(network.provenance or {}, preprocessing_of(data), str(data.root))
        found += check_overlap(network.provenance or {}, data, force=allow_overlap)
    return list(dict.fromkeys(found))


@torch.inference_mode()
def predictions_of(model: Any, data: FaceDataModule) -> pd.DataFrame:
    """Return the table of predictions for the test part, as ``PredictionWriter`` writes it."""
    parts = []
    for batch in data.part_dataloader("test"):
        batch = data.on_before_batch_transfer(batch, 0)
        output = model.calibrated(model(batch["image"].to(model.device)))
        known = {name: batch[name].to(model.device) for name in ("index", "valid")}
        columns = to_arrays([known | prediction_columns(model, output)])
        valid = columns.pop("valid")
        parts.append(pd.DataFrame(columns)[valid])
    table = pd.concat(parts, ignore_index=True).sort_values("index", kind="stable")
    rows = table.pop("index").to_numpy()
    faces = data.test_dataset.table.iloc[rows].reset_index(drop=True)
    labels = face_labels(faces, data, joined="dataset" in faces)
    return pd.concat([labels, table.reset_index(drop=True)], axis=1)


def describe_spread(table: pd.DataFrame) -> list[str]:
    """Return the spread within and between networks, and the MAE of each alone, as texts."""
    if "age_std_between" not in table:
        return []
    within, between = (
        float(np.sqrt((table[f"age_std_{name}"] ** 2).mean())) for name in ("within", "between")
    )
    texts = [
        f"Standard deviation of age (root mean square over faces): {within:.2f} years within networks, "
        f"{between:.2f} years between them."
    ]
    exact = table["label_age_low"] == table["label_age_high"]
    if exact.any():
        found = [re.fullmatch(r"age(\d+)_mean", str(name)) for name in table]
        numbers = [int(match[1]) for match in found if match]
        label = table.loc[exact, "label_age_low"]
        errors = [(table.loc[exact, f"age{number}_mean"] - label).abs().mean() for number in numbers]
        texts.append(f"Age MAE of the networks alone: {', '.join(f'{error:.2f}' for error in errors)} years.")
    return texts


def _record(model: Ensemble, data: FaceDataModule, overlap: Sequence[str]) -> dict[str, Any]:
    networks = zip(model.paths, model.members, strict=True)
    return {
        "name": f"ensemble of {len(model.paths)}",
        "ensemble": [
            {
                "checkpoint": path,
                "weights": weights_digest(network.state_dict()),
                "calibrated": network.calibration is not None,
            }
            for path, network in networks
        ],
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
        "overlap": list(overlap),
        "data": data.provenance(),
        "places": places_of(data),
        "versions": versions(),
        "command": shlex.join(sys.argv),
        "started": datetime.now().isoformat(timespec="seconds"),
    }


def _context(model: Ensemble, record: dict[str, Any], notes: Sequence[str]) -> ReportContext:
    single = sum(each["calibrated"] for each in record["ensemble"])
    calibrated = "calibrated as one" if model.calibration else f"{single} of them calibrated"
    return ReportContext(
        title=record["name"],
        data=record["data"],
        checkpoint="; ".join(model.paths),
        trained_on=model.provenance,
        seed="; ".join(str(network.seed) for network in model.members if network.seed is not None) or None,
        versions=record["versions"],
        calibration=record["calibration"],
        command=record["command"],
        notes=(
            f"The predictions are the mixture of {len(model.paths)} networks with equal weights, "
            f"{calibrated}.",
            *notes,
        ),
    )
