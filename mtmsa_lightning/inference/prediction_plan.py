"""The plan of a table of predictions: model, options and inputs as plain values."""

import hashlib
import importlib.metadata
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.align.crop import ALIGNED
from mtmsa_lightning.align.margin import CROP_MARGIN
from mtmsa_lightning.data import preprocessing_check
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.inference.inputs import Inputs
from mtmsa_lightning.inference.prediction_parts import FORMAT_VERSION, PART_SIZE, Plan
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.ensemble import Ensemble

_PACKAGES = ("mtmsa-lightning", "torch", "numpy", "opencv-python-headless", "onnxruntime")


def make_plan(
    ckpt_path: str | Sequence[str],
    estimator: AgeEstimator,
    inputs: Inputs,
    detect: bool,
    annotate: Path | None,
    shard: tuple[int, int],
) -> Plan:
    """Return the plan of a table; ``shard`` is the number of this shard, from 1, and of all."""
    model = estimator.model
    return {
        "format_version": FORMAT_VERSION,
        "model": model_fingerprint(model),
        "options": {
            "detect": detect,
            "max_pixels": estimator.max_pixels,
            "smallest_face": estimator.smallest_face,
            "orientation": estimator.orientation,
            "batch_size": estimator.batch_size,
            "precision": estimator.precision,
            "flip_test": model.flip_test,
            "annotate": None if annotate is None else str(annotate),
        },
        "inputs": {"images": len(inputs), "fingerprint": inputs.fingerprint},
        "files": inputs.state,
        "part_size": PART_SIZE,
        "shard": list(shard) if shard[1] > 1 else None,
        "checkpoint": ckpt_path if isinstance(ckpt_path, str) else [*ckpt_path],
        "trained_on": {  # without the hashes of training faces
            name: value
            for name, value in (model.provenance or {}).items()
            if not isinstance(value, torch.Tensor)
        },
        "calibration": None if model.calibration is None else model.calibration.describe(),
        "classes": {task: list(names) for task, names in model.trained_classes.items()},
        "age_groups": [list(group) for group in model.age_groups],
        "command": shlex.join(sys.argv),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def warn_preprocessing(estimator: AgeEstimator, inputs: Inputs, detect: bool) -> None:
    """Warn if faces are preprocessed differently from training."""
    trained, how = estimator.model.provenance or {}, estimator.preprocessing
    for block in inputs.prepared:
        preprocessing_check.warn_preprocessing(
            trained, trained | {"preparation": block.preparation}, str(block.root)
        )
    if inputs.photos and not detect and (how.detects or how.boxed):
        preprocessing_check.warn_preprocessing(
            trained, trained | {"preparation": None}, "its input with --detect false"
        )
    if inputs.photos and detect and not how.detects and how.dataset not in ALIGNED:
        found = {"crop": {"margin": CROP_MARGIN, "detector": {}}}
        preprocessing_check.warn_preprocessing(
            trained, trained | {"preparation": found}, "its input with --detect true"
        )


def model_fingerprint(model: MTMSA | Ensemble) -> str:
    """Return the SHA-256 of weights, settings and calibration, of an ensemble also of its networks."""
    calibration = None if model.calibration is None else model.calibration.to_dict()
    if isinstance(model, Ensemble):
        parts = [*map(model_fingerprint, model.members), to_json(calibration, sort_keys=True)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    digest = hashlib.sha256(to_json([dict(model.hparams), calibration], sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
