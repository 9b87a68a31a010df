"""Checks that hold for every release."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mtmsa_lightning
from mtmsa_lightning.cli.commands.prepare import SETTINGS
from mtmsa_lightning.data.audit.published_counts import compare
from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.data.release_files import list_images
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.training.build_data import recognise


@pytest.fixture
def check_release(tmp_path: Path) -> Callable[..., Any]:
    """Check what all releases have in common, and return a whole release as a map-style dataset.

    The tree is recognised, its images become samples, its counts are compared with the published ones, an
    empty folder is an error that shows the expected tree, and every split depends on ids alone.
    """

    def check(name: str, root: Path, compared: int, **settings: Any) -> Any:
        for path in list_images(root):
            cv2.imwrite(str(root / path), np.full((40, 32, 3), 90, np.uint8))
        datamodule = getattr(mtmsa_lightning, CLASSES[name])
        assert recognise(root) == name
        assert name in SETTINGS
        data = datamodule(root=str(root), protocol="whole", num_workers=0, **settings)
        assert data.name == name
        assert (data.table.dataset, data.table.race_classes) == (name, data.race_classes)
        assert len(compare(data.table)) == compared
        assert not all(comparison.agrees for comparison in compare(data.table))
        (tmp_path / "empty").mkdir()
        tree = import_module(f"mtmsa_lightning.data.datasets.{name}").TREE.strip()
        with pytest.raises(DataError) as error:
            datamodule(root=str(tmp_path / "empty")).read()
        assert tree in str(error.value)
        dataset = getattr(mtmsa_lightning, f"{CLASSES[name]}Dataset")
        faces = dataset(root, "test", "whole", image_size=64, **settings)
        assert len(faces) == len(data.table)
        sample = faces[0]
        assert sample["image"].shape == (3, 64, 64)
        assert sample["id"].startswith(f"{name}/")
        return faces

    return check
