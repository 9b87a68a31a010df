"""Compile the network of a model with torch.compile."""

import os
import shutil
from collections.abc import Callable
from typing import Any

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.module import MTMSA

COMPILERS = ("g++", "clang++", "icpx")


def compile_network(model: MTMSA, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the trunk in place; the names of weights do not change.

    It is compiled at the first training batch, at the first evaluation batch, and once more for any number of
    faces when a batch of another size comes, such as the last of an epoch.

    Raises:
        ConfigError: There is no C++ compiler, which inductor needs on every device.
    """
    if backend == "inductor" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), *COMPILERS))):
        raise ConfigError(
            "--compile needs a C++ compiler: install g++, set CXX to yours, or leave --compile out"
        )
    model.trunk.compile(backend=backend)
