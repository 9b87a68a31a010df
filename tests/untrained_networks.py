"""Untrained networks and a portrait, for tests of everything around a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtmsa_lightning import MTMSA, MSAConfig
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.models.backbones import resnet

RACES = ("white", "black", "asian")
CALIBRATION = Calibration(
    sigma_scale=1.25,
    temperatures={"gender": 1.5, "race": 0.7},
    quantiles={0.5: 0.6, 0.9: 1.9, 0.95: float("inf")},
    max_width=40.0,
    fitted_on={
        "dataset": "morph", "protocol": "subject_exclusive", "fold": 0, "part": "calibration", "faces": 90,
        "subjects": 30, "unit": "subjects", "chose_checkpoint": False,
    },
    metrics={"calibration": {"before": {"ece": 0.1}, "after": {"ece": 0.05}}},
    policies=(AgePolicy(18, yes_from=33.0, no_below=12.0), AgePolicy(21, by="probability", yes_from=0.99)),
)  # fmt: skip


class TinyTrunk(nn.Module):
    """A backbone of one strided convolution with normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, resnet.WIDTHS[-1], 16, stride=16, bias=False)
        self.norm = nn.BatchNorm2d(resnet.WIDTHS[-1])

    def forward(self, images: Tensor, aux_stage: int) -> tuple[Tensor, Tensor]:
        features = self.norm(self.conv(images)).relu().mean((2, 3))
        return features, features


def provenance(crop: dict[str, Any] | None = None, dataset: str = "morph", **more: Any) -> dict[str, Any]:
    """Return a checkpoint's record of its training, on crops of ``mtmsa prepare`` if ``crop`` is given."""
    return {
        "dataset": dataset, "protocol": "subject_exclusive", "label_rule": "as released",
        "labels": ["age", "exact", "gender", "race"], "fingerprints": {"train": "ab", "test": "cd"},
        "preparation": None if crop is None else {"crop": crop},
        "train_id_hashes": torch.tensor([2**62 + 1, -5]), "train_image_hashes": torch.tensor([7]),
    } | more  # fmt: skip


def network(seed: int = 1, **arguments: Any) -> MTMSA:
    """Return a small network with random weights and all outputs."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"msa": MSAConfig(rates=(1, 2), stages=(1,)), "image_size": 64}
    model = MTMSA(**settings | {"race_classes": RACES} | arguments)
    for attention in model.trunk.msa.values():
        torch.nn.init.normal_(attention.expand.weight, std=0.1)
    if model.age is not None:
        model.age.set_age_statistics(34.5, 11.25)
    model.provenance = provenance()
    return model.eval()


def save_checkpoint(model: MTMSA, file: Path) -> Path:
    """Write the files of a run with a network."""
    checkpoint = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    checkpoint |= {"provenance": model.provenance}
    if model.calibration is not None:
        checkpoint["calibration"] = model.calibration.to_dict()
    torch.save(checkpoint, file)
    return file


@pytest.fixture(scope="session")
def new_network() -> Callable[..., MTMSA]:
    return network


@pytest.fixture(scope="session")
def record() -> Callable[..., dict[str, Any]]:
    return provenance


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    return CALIBRATION


@pytest.fixture(scope="session")
def save() -> Callable[[MTMSA, Path], Path]:
    return save_checkpoint
