"""Compiling the network of a model by torch.compile."""

import os
import shutil
from collections.abc import Callable
from typing import Any

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.module import MTMSA

COMPILERS = ("g++", "clang++", "icpx")


def compile_network(model: MTMSA, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the trunk in place; names of weights, checkpoints and copies of the model stay as they were.

    It is compiled at the first batch, again at the first one of evaluation, and once more for any number of
    faces when a batch of another size comes, such as the last of an epoch. Heads and losses stay as they are:
    a few numbers in float64.

    Args:
        model: The model.
        backend: As in :func:`torch.compile`.

    Raises:
        ConfigError: If there is no C++ compiler, which inductor calls on every device.
    """
    if backend == "inductor" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), *COMPILERS))):
        raise ConfigError("--compile needs a C++ compiler: install g++, name yours by CXX, or leave it out")
    model.trunk.compile(backend=backend)
