"""Fixtures shared by the whole suite: a tiny release and a trained run on it."""

import gc
import logging
import multiprocessing.spawn
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import narrow_network
import numpy as np
import pytest
import torch
import warm_server
from crossval_children import children  # noqa: F401
from hypothesis import settings
from matplotlib.figure import Figure
from numpy.typing import NDArray
from shared_folders import shared_folder
from simulated_predictions import only_faces_drawn, simulated, undrawn  # noqa: F401
from starter_package import no_starter, starter, starter_packages  # noqa: F401
from untrained_networks import calibration, new_network, record, save  # noqa: F401

from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.synthetic import releases, write_morph
from mtmsa_lightning.data.synthetic.drawing import draw_face
from mtmsa_lightning.export.speed import images_per_second

# Processes that tests start build narrow networks too (sitecustomize.py). They inherit neither from here nor
# from the shell that SIGINT is ignored.
NARROW = str(Path(narrow_network.__file__).parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [NARROW, os.environ.get("PYTHONPATH")]))
signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever the machine does beside the tests, an example may take as long as it takes.
settings.register_profile("suite", deadline=None, max_examples=40)
settings.load_profile("suite")

TINY = """
name: tiny
data:
  class_path: mtmsa_lightning.MORPH
  init_args: {{root: {root}, image_size: 64, crop: 1.0, batch_size: 8, num_workers: 0, val_fraction: 0.25}}
model:
  msa: {{rates: [1], stages: [1]}}
  age: {{class_path: mtmsa_lightning.GaussianAgeHead, init_args: {{dropout: 0.1}}}}
  optimizer: {{class_path: torch.optim.AdamW, init_args: {{lr: 1.0e-3}}}}
trainer: {{max_epochs: 2, accelerator: cpu, enable_progress_bar: false}}
wandb: disabled
"""
"""A config that trains in seconds."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Use one thread: tiny networks do not profit from more, and processes share the cores."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _imported_once() -> Iterator[None]:
    """Collect garbage more rarely, never what was imported, and end the server of warm processes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    yield
    warm_server.stop()


@pytest.fixture(scope="session", autouse=True)
def _quick_files() -> Iterator[None]:
    """Write plots at a quarter of their resolution, and do not wait for the disk: no test looks at either."""
    draw = Figure.savefig

    def coarse(figure: Figure, *args: Any, **kwargs: Any) -> None:
        draw(figure, *args, **kwargs | {"dpi": kwargs.get("dpi", 200) / 4})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", coarse)
        patch.setattr(os, "fsync", lambda number: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _drawn_once() -> Iterator[None]:
    """Draw each synthetic face once: many tests write the same ones."""
    drawn: dict[str, NDArray[np.uint8]] = {}

    def draw_once(*args: Any) -> NDArray[np.uint8]:
        key = repr(args)
        if key not in drawn:
            drawn[key] = draw_face(*args)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "draw_face", draw_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _timed_shortly() -> Iterator[None]:
    """Measure the speed of an exported file in a few calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images_per_second, "__defaults__", (0.001, 10.0))
        yield


@pytest.fixture
def warm_python(monkeypatch: pytest.MonkeyPatch) -> str:
    """Fork the processes that this one starts as ``python`` or spawns; return the program that does it."""
    program = warm_server.start()
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(program))
    return program


@pytest.fixture(autouse=True)
def _silent() -> None:
    """Reset the log level that an earlier command set."""
    logging.getLogger("mtmsa_lightning").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def full_width() -> Iterator[None]:
    """The network with all its channels, for modules that test these themselves or published weights."""
    with narrow_network.full_width():
        yield


@pytest.fixture(scope="session")
def morph_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 synthetic faces in MORPH's layout."""

    def write(folder: Path) -> None:
        write_morph(folder / "morph", n_faces=67, seed=3, size=80)

    return shared_folder(tmp_path_factory, "releases", write) / "morph"


@pytest.fixture(scope="session")
def tiny_config(morph_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file for a two-epoch run on ``morph_root``."""
    file = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    file.write_text(TINY.format(root=morph_root))
    return file


@pytest.fixture(scope="session")
def trained(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a finished ``mtmsa fit --config tiny.yaml``."""
    root = tmp_path_factory.mktemp("runs")
    main(["fit", "--config", str(tiny_config), "--trainer.default_root_dir", str(root)])
    (run,) = (root / "tiny").iterdir()
    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Run the command line, expect status 2, and return the message."""

    def run(*args: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert "Traceback" not in message
        return message

    return run


# ------------------------------------------------------------- a release with errors

HEADER = "path,age,gender,race,subject,split"
SIDE = 96


def picture(seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    """Return an image that differs from all others: patches, for perceptual hashes, and noise."""
    rng = np.random.default_rng(seed)
    patches = cv2.resize(rng.uniform(40, 215, (24, 24, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(patches + rng.normal(0, 12, patches.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def draw() -> Callable[..., NDArray[np.uint8]]:
    """The function that draws images."""
    return picture


@pytest.fixture(scope="session")
def clean_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve faces of six subjects, two per subject, with a predefined split and no errors."""
    root = tmp_path_factory.mktemp("clean")
    lines = [HEADER]
    for index in range(12):
        cv2.imwrite(str(root / f"{index:02d}.png"), picture(index))
        part = ("train", "train", "train", "train", "val", "test")[index // 2]
        lines.append(f"{index:02d}.png,{20 + index},{'mf'[index % 4 // 2]},white,s{index // 2},{part}")
    (root / "faces.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="session")
def dirty_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predefined split with one error of every kind, named by its file."""
    root = tmp_path_factory.mktemp("dirty")
    rows = [
        "plain-1.png,30,m,white,a,train", "plain-2.png,31,m,white,a,train", "plain-3.png,40,f,black,b,val",
        "copy-train.png,25,f,asian,c,train", "copy-test.png,25,f,asian,d,test",
        "twin-train.png,26,f,asian,e,train", "twin-val.png,26,f,asian,f,val",
        "again-1.png,27,f,asian,g,train", "again-2.png,27,f,asian,g,train",
        "other-1.png,28,m,white,h,train", "other-2.png,38,m,white,h,train",
        "near-train.png,50,m,white,i,train", "near-test.jpg,51,m,white,j,test",
        "alike-1.png,52,m,white,k,train", "alike-2.jpg,60,m,white,k,train",
        "leak-train.png,53,f,white,l,train", "leak-test.png,54,f,white,l,test",
        "sexes-1.png,55,m,white,n,train", "sexes-2.png,56,f,white,n,train",
        "races-1.png,57,m,white,o,train", "races-2.png,58,m,black,o,train",
        "broken.png,59,m,white,p,train", "tiny.png,60,m,white,q,train", "blurred.png,61,m,white,r,train",
        "lost.png,62,m,white,r,train",
    ]  # fmt: skip
    pairs = {
        "copy-test.png": "copy-train.png",
        "twin-val.png": "twin-train.png",
        "again-2.png": "again-1.png",
    }
    pairs |= {"other-2.png": "other-1.png"}
    near = {"near-test.jpg": "near-train.png", "alike-2.jpg": "alike-1.png"}
    for index, name in enumerate(row.partition(",")[0] for row in rows):
        if name in pairs:
            (root / name).write_bytes((root / pairs[name]).read_bytes())
        elif name in near:
            original = cv2.imread(str(root / near[name]))
            cv2.imwrite(str(root / name), original, [cv2.IMWRITE_JPEG_QUALITY, 60])
        elif name == "broken.png":
            (root / name).write_bytes(b"\x89PNG but not really")
        elif name == "blurred.png":
            cv2.imwrite(str(root / name), cv2.GaussianBlur(picture(index), (0, 0), 6))
        elif name != "lost.png":
            cv2.imwrite(str(root / name), picture(index, 40 if name == "tiny.png" else SIDE))
    (root / "faces.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """An astronaut by NASA, in the public domain, 512 x 512 pixels, from scikit-image's wheel."""
    import skimage.data

    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def detector() -> TinyRetinaFace:
    return TinyRetinaFace()
