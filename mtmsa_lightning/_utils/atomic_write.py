"""Atomic writes: a reader sees the old or the new content, never part of it."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


PARTIAL = ".mtmsa-partial"
"""Suffix of files that are being written."""


@contextmanager
def replacing(file: Path, token: str = "") -> Iterator[Path]:
    """Yield a temporary file that replaces ``file`` at the end, unless writing fails; its folder is made.

    Permissions are those of the umask. A ``token`` distinguishes files that several processes write at once.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsdecode(os.fsencode(file.name)[:200])  # a file name has at most 255 bytes
    partial = file.with_name(f".{name}{token}{PARTIAL}")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(exist_ok=False)
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove files that killed processes left half-written in a folder, but not in its subfolders."""
    for file in folder.glob(f".*{PARTIAL}"):
        file.unlink(missing_ok=True)


@contextmanager
def replacing_in(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield an empty folder, whose entries replace ``names`` in ``folder`` at the end, unless writing fails.

    Names that the new folder lacks are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / ".new"  # a fixed name, so that the next call removes the remains of a killed process
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        (fresh / ".old").mkdir()
        for name in names:
            if (folder / name).is_dir() or not (fresh / name).exists():
                with suppress(FileNotFoundError):
                    (folder / name).replace(fresh / ".old" / name)
            with suppress(FileNotFoundError):
                (fresh / name).replace(folder / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 with Unix line ends."""
    with replacing(file, token_hex(4)) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file atomically."""
    with replacing(file, token_hex(4)) as partial:
        partial.write_bytes(data)


def write_table(table: "pd.DataFrame", file: Path) -> None:
    """Write a table to ``.csv`` or ``.parquet`` atomically."""
    with replacing(file) as partial:
        if file.suffix == ".csv":
            table.to_csv(partial, index=False, encoding="utf-8", lineterminator="\n")
        else:
            table.to_parquet(partial, index=False)
