"""Estimate the ages of changed photos of a test part."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning.align.margin import CROP_MARGIN
from mtmsa_lightning.data.dataloader import face_loader
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.mixture.datamodule import Mixture
from mtmsa_lightning.data.samplers import EvalSampler
from mtmsa_lightning.data.stress.changes import STRESSES
from mtmsa_lightning.data.stress.dataset import stressed
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.evaluation.face_labels import face_labels
from mtmsa_lightning.evaluation.stress import StressedAges
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.ensemble import Ensemble

log = logging.getLogger(__name__)


def check_stress(model: MTMSA | Ensemble, data: FaceDataModule) -> None:
    """Raise ConfigError if changed photos cannot be evaluated."""
    if model.age is None:
        raise ConfigError("--stress needs an age head, which the checkpoint lacks")
    if isinstance(data, Mixture):
        raise ConfigError("--stress takes one dataset: evaluate the sources of a mixture one by one")


def estimate_stressed(
    model: MTMSA | Ensemble,
    data: FaceDataModule,
    names: Sequence[str],
    device: torch.device | str = "cpu",
    examples: bool = False,
    seed: int = 0,
) -> StressedAges:
    """Estimate the ages of the test faces unchanged and with every severity of the named changes.

    Args:
        model: The model; its calibration is applied.
        data: The DataModule after ``setup``.
        names: Names of the changes.
        device: Device of the model.
        examples: Whether to return photos of one face.
        seed: Seed of the changes.
    """
    margin = canonical_margin(data)
    chosen = [stress for stress in STRESSES if stress.name in names]
    left_out = tuple(stress.name for stress in chosen if stress.canonical and margin is None)
    chosen = [stress for stress in chosen if stress.name not in left_out]
    dataset = data.test_dataset
    datasets = {
        (stress.name, severity): stressed(dataset, stress, severity, margin or 0.0, seed)
        for stress in chosen
        for severity in range(1, len(stress.amounts) + 1)
    }
    model = model.to(device).eval()
    log.info("stress: %d faces, unchanged and with %d changes", len(dataset), len(datasets))
    unchanged = _ages(model, data, dataset)
    changed = {condition: _ages(model, data, each) for condition, each in datasets.items()}
    shown: list[tuple[NDArray[np.uint8], str]] = []
    if examples and len(dataset):
        row = int(np.argsort(np.where(np.isnan(unchanged), np.inf, unchanged))[len(unchanged) // 2])
        shown = [(dataset[row]["image"], f"unchanged: {unchanged[row]:.1f}")]
        by_name = {stress.name: stress for stress in chosen}
        for (name, severity), each in datasets.items():
            text = f"{name.replace('_', ' ')}, {by_name[name].describe(severity)}"
            shown.append((each[row]["image"], f"{text}: {changed[name, severity][row]:.1f}"))
    labels = face_labels(dataset.table, data)
    return StressedAges(labels, unchanged, changed, seed, left_out, tuple(shown))


def canonical_margin(data: FaceDataModule) -> float | None:
    """Return the margin of the canonical crops of a prepared set; None for other images."""
    crop = (data.preparation or {}).get("crop", {})
    return float(crop.get("margin", CROP_MARGIN)) if "landmarks" in crop else None


@torch.inference_mode()
def _ages(model: MTMSA | Ensemble, data: FaceDataModule, dataset: FaceDataset) -> NDArray[np.float64]:
    """Return the estimated ages in years, NaN for unreadable images."""
    ages = np.full(len(dataset), np.nan)
    for batch in face_loader(dataset, EvalSampler(dataset), data.batch_size, data.num_workers):
        age = model.calibrated(model(batch["image"].to(model.device))).age
        assert age is not None
        ages[batch["index"][batch["valid"]].numpy()] = age.mean.double().cpu().numpy()[batch["valid"].numpy()]
    return ages
