"""Fixtures shared by the whole suite: a tiny release and a trained run on it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mtmsa_lightning.cli import main
from mtmsa_lightning.data.synthetic import write_morph

TINY = """
name: tiny
data:
  class_path: mtmsa_lightning.MORPH
  init_args: {{root: {root}, image_size: 64, crop: 1.0, batch_size: 8, num_workers: 0, val_fraction: 0.2}}
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
    """One thread on any machine: these tiny networks gain nothing by more, and processes share the cores."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def morph_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 synthetic faces in MORPH's layout."""
    root = tmp_path_factory.mktemp("releases") / "morph"
    write_morph(root, n_faces=67, seed=3, size=80)
    return root


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
