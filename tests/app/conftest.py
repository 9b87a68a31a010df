"""A network that nobody trained, a portrait in the public domain, and the page served on loopback."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mtmsa_lightning import MTMSA, MSAConfig
from mtmsa_lightning.align.detector import FaceDetector, load_detector
from mtmsa_lightning.app.server import application, listen, private_folder, server
from mtmsa_lightning.inference.estimator import AgeEstimator
from mtmsa_lightning.models.calibration import Calibration

CALIBRATION = Calibration(
    sigma_scale=1.25,
    temperatures={"gender": 1.5},
    quantiles={0.5: 0.6, 0.9: 1.9},
    max_width=1.0,
    fitted_on={
        "dataset": "morph", "protocol": "subject_exclusive", "fold": 0, "part": "calibration", "faces": 90,
        "subjects": 30, "unit": "subjects", "chose_checkpoint": False,
    },
)  # fmt: skip
"""Every face is unsure by it."""


def network(calibration: Calibration | None = None, **arguments: Any) -> MTMSA:
    """A small network with random weights, whose every part says something."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"msa": MSAConfig(rates=(1, 2), stages=(1, 2)), "image_size": 64}
    model = MTMSA(**settings | {"race_classes": ("white", "black", "asian")} | arguments)
    for attention in model.trunk.msa.values():
        torch.nn.init.normal_(attention.expand.weight, std=0.1)
    if model.age is not None:
        model.age.set_age_statistics(34.5, 11.25)
        for weights in model.age.parameters():
            weights.data *= 0.01  # near the mean age, whatever the face
    model.calibration = calibration
    model.provenance = {
        "dataset": "morph", "protocol": "subject_exclusive", "fold": 2, "label_rule": "as <released>",
        "labels": ["age", "exact", "gender", "race"], "faces": {"train": 44106},
        "preparation": {"crop": {"margin": 0.25, "size": 256, "detector": {"name": "RetinaFace"}}},
    }  # fmt: skip
    return model.eval()


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return load_detector()


@pytest.fixture(scope="session")
def estimator_of(detector: FaceDetector) -> Callable[..., AgeEstimator]:
    """The function that makes an estimator of a new network, by the network's settings."""
    return lambda calibration=None, **arguments: AgeEstimator(
        network(calibration, **arguments), device="cpu", detector=detector
    )


@pytest.fixture(scope="session")
def estimator(estimator_of: Callable[..., AgeEstimator]) -> AgeEstimator:
    return estimator_of(CALIBRATION)


@pytest.fixture(scope="session")
def photos(portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to upload: one face, twenty, none, and files that are refused."""
    folder = tmp_path_factory.mktemp("photos")
    face = cv2.resize(portrait[:256, 100:356], (160, 160), interpolation=cv2.INTER_AREA)
    pictures = {
        "one.jpg": portrait,
        "twenty.png": np.tile(face, (4, 5, 1)),
        "none.png": portrait[-200:, :200],
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (folder / "text.jpg").write_text("no image")
    (folder / "large.jpg").write_bytes(bytes(2**20 + 1))
    return folder


@pytest.fixture(scope="session")
def served(estimator: AgeEstimator) -> Iterator[tuple[str, Path]]:
    """The page's address and the folder that uploads pass through; files above 1 MB are refused."""
    with listen("127.0.0.1", None) as opened, private_folder() as folder:
        running = server(application(estimator, max_megabytes=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{opened.getsockname()[1]}", Path(folder)
        running.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert not Path(folder).exists()
