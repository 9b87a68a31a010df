"""Folders that the workers of pytest-xdist share: large ones that no test changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(temporary: pytest.TempPathFactory, name: str, write: Callable[[Path], object]) -> Path:
    """Return a folder, which the first worker that asks for it makes and fills."""
    base = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose folder this is; the parent is that of all
        base = base.parent
    folder, finished = base / name, base / f"{name}.finished"
    with FileLock(base / f"{name}.lock"):
        if not finished.exists():
            folder.mkdir(parents=True)
            write(folder)
            finished.touch()
    return folder
