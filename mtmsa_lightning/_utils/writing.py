"""Atomic writes: a reader sees the old or the new content, never a part."""

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
    """Give the path of a new file, which takes the place of ``file`` when it is written.

    Whoever reads the file, at any moment, sees the old or the new content; if writing fails, the old one
    stays. The new file may be read and written by whom the umask lets, whatever wrote it.

    Args:
        file: The file; its folder is made if it is not there.
        token: Distinguishes files that several processes write at the same time.
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
    """Remove files that killed processes left half-written in a folder and in those directly below it."""
    for pattern in (f".*{PARTIAL}", f"*/.*{PARTIAL}"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


@contextmanager
def replacing_in(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Give an empty folder, whose files and folders take the place of those in ``folder`` when it is filled.

    If filling it fails, ``folder`` stays as it is.

    Args:
        folder: It is made if it is not there.
        names: What is replaced, one after the other; what the new folder lacks of it is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / ".new"  # of one name, so that nothing of a killed process stays
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
    """Write a text file in one step, in UTF-8 and with Unix line ends on every system."""
    with replacing(file, token_hex(4)) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file in one step."""
    with replacing(file, token_hex(4)) as partial:
        partial.write_bytes(data)


def write_table(table: "pd.DataFrame", file: Path) -> None:
    """Write a table to ``.csv`` or ``.parquet`` in one step."""
    with replacing(file) as partial:
        if file.suffix == ".csv":
            table.to_csv(partial, index=False, encoding="utf-8", lineterminator="\n")
        else:
            table.to_parquet(partial, index=False)
