"""A mixture of three small tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mixed_sources import SIZES, source, write_source

from mtmsa_lightning import Mixture


@pytest.fixture(scope="session")
def three_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the three tables."""
    root = tmp_path_factory.mktemp("sources")
    for name in SIZES:
        write_source(root, name)
    return root


@pytest.fixture
def mixture(three_sources: Path) -> Callable[..., Mixture]:
    """Build a mixture of the three tables."""

    def build(*names: str, **settings: Any) -> Mixture:
        sources = [source(three_sources, name) for name in names or SIZES]
        return Mixture(sources, **({"image_size": 64, "batch_size": 4, "num_workers": 0} | settings))

    return build
