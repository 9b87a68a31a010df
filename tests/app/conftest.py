"""An untrained network, a portrait in the public domain, and the page served on loopback."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
import pytest
import torch

from mtmsa_lightning import MTMSA, MSAConfig
from mtmsa_lightning.align.detector import FaceDetector, load_detector
from mtmsa_lightning.app.server import application, listen, private_folder, server
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.inference.estimator import AgeEstimator

CALIBRATION = Calibration(
    sigma_scale=1.25,
    temperatures={"gender": 1.5},
    quantiles={0.5: 0.6, 0.9: 1.9},
    max_width=1.0,
    fitted_on={
        "dataset": "morph", "protocol": "subject_exclusive", "fold": 0, "part": "calibration", "faces": 90,
        "subjects": 30, "unit": "subjects", "chose_checkpoint": False,
    },
    policies=(AgePolicy(18, yes_from=60.0, no_below=12.0),),
)  # fmt: skip
"""A threshold that marks every face as unsure, of its age too."""


def network(calibration: Calibration | None = None, **arguments: Any) -> MTMSA:
    """Return a small network with random weights and all outputs."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"msa": MSAConfig(rates=(1, 2), stages=(1, 2)), "image_size": 64}
    model = MTMSA(**settings | {"race_classes": ("white", "black", "asian")} | arguments)
    for attention in model.trunk.msa.values():
        torch.nn.init.normal_(attention.expand.weight, std=0.1)
    if model.age is not None:
        model.age.set_age_statistics(34.5, 11.25)
        for weights in model.age.parameters():
            weights.data *= 0.01  # near the mean age for every face
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
    """Return a function that builds an estimator of a new network from the network's settings."""
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


class Served(NamedTuple):
    """A served page: its address, the folder of Gradio's files, and the application."""

    address: str
    folder: Path
    app: Any

    def upload(self, content: bytes, name: str = "photo.jpg") -> str:
        """Upload a file as a browser does, and return its name on the server."""
        response = httpx.post(
            f"{self.address}/gradio_api/upload", files={"files": (name, content)}, trust_env=False, timeout=60
        )
        assert response.status_code == 200
        (named,) = response.json()
        return named

    def ask(self, upload: Any, name: str = "photo.jpg") -> str:
        """Request the prediction of an upload as a browser does, and return the response."""
        session = secrets.token_hex(6)
        meta = {"meta": {"_type": "gradio.FileData"}, "url": f"{self.address}/gradio_api/file={upload}"}
        body = {"data": [{"path": upload, "orig_name": name} | meta], "fn_index": 0, "session_hash": session}
        with httpx.Client(base_url=self.address, trust_env=False, timeout=120) as client:
            assert client.post("/gradio_api/queue/join", json=body).status_code == 200
            with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
                for line in stream.iter_lines():
                    message = json.loads(line.removeprefix("data: ") or "{}")
                    if message.get("msg") == "process_completed":
                        assert message["success"], message
                        assert message["output"]["data"][0] is None
                        return message["output"]["data"][1]
        raise AssertionError("no answer")


@pytest.fixture(scope="session")
def served(estimator: AgeEstimator) -> Iterator[Served]:
    """The served page; files above 1 MB are refused."""
    with listen("127.0.0.1", None) as opened, private_folder() as folder:
        app = application(estimator, max_megabytes=1)
        running = server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        yield Served(f"http://127.0.0.1:{opened.getsockname()[1]}", Path(folder), app)
        running.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert not Path(folder).exists()
