"""A package like that of ``weights/starter``, with a network that was trained for seconds."""

from pathlib import Path

import pytest
from untrained_networks import CALIBRATION

from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.pretrained import write_pretrained
from mtmsa_lightning.runs.starter import NETWORK, PACKAGE

CROPS = {"crop": {"margin": 0.0, "size": 128, "detector": {"name": "any"}}}


@pytest.fixture(scope="session")
def starter_packages(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package: the network of ``trained``, as if trained on crops of found faces."""
    checkpoint = read_checkpoint(trained)
    checkpoint["provenance"] = checkpoint["provenance"] | {"preparation": CROPS}
    checkpoint["calibration"] = CALIBRATION.to_dict()
    folder = tmp_path_factory.mktemp("packages")
    write_pretrained(checkpoint, folder / PACKAGE / NETWORK, half=True)
    (folder / PACKAGE / "__init__.py").touch()
    (folder / PACKAGE / NETWORK / "README.md").write_text("# starter\n")
    return folder


@pytest.fixture
def starter(starter_packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the package for a test, and return the folder of its network."""
    monkeypatch.syspath_prepend(starter_packages)
    return starter_packages / PACKAGE / NETWORK


@pytest.fixture
def no_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without the package, installed or not."""
    monkeypatch.setattr("mtmsa_lightning.runs.starter.PACKAGE", "mtmsa_lightning_not_installed")
