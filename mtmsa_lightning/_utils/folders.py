"""Make, check and lock the folders that commands write to."""

import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from mtmsa_lightning._utils.atomic_write import remove_partials
from mtmsa_lightning._utils.signals import Stopped
from mtmsa_lightning.errors import DataError, MTMSAError, Preempted

LOCK = ".lock"
"""Name of the lock file. It stays after the lock, so that processes that wait for it agree on one file."""

PATIENCE = 1.0
"""Seconds to wait for a lock, which :func:`holder` takes for a moment."""


def check_folder(folder: Path) -> None:
    """Raise DataError if a folder cannot be made or written to, without making it."""
    there = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        why = "may not be written to" if there.is_dir() else "is a file"
        raise DataError(f"{folder}: nothing can be written there: {there} {why}: choose another")


def make_folder(folder: Path) -> list[Path]:
    """Make a folder, if missing, and return the folders that were made, innermost first.

    DataError if it cannot be made or written to.
    """
    made: list[Path] = []
    try:
        for each in reversed((folder, *folder.parents)):
            try:
                each.mkdir()
                made.insert(0, each)
            except OSError:  # it exists, or is a read-only parent such as /
                if not each.is_dir():
                    raise
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"nothing can be written there ({error.strerror})"
        raise DataError(f"{folder}: {why}: choose another") from error
    return made


@contextmanager
def locked(
    folder: Path,
    command: str,
    made: Sequence[Path] = (),
    worthless: Collection[str] = (),
    wait: float = PATIENCE,
) -> Iterator[None]:
    """Lock a folder, made if missing, against other processes; the lock ends with this process.

    A folder that was made here, or by the caller (``made``, innermost first), is removed at the end if it is
    empty, or if the command failed with a user error and left only ``worthless`` relative paths. In a folder
    that existed, the lock file is removed if the command failed so and added nothing.

    Raises:
        DataError: Nothing can be written there, or another process is writing there after ``wait`` seconds.
    """
    before = _names(folder)
    made = [*made, *make_folder(folder)]
    lock = _lock(folder)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        advice = "wait for it or stop it, or choose another folder"
        raise DataError(f"{folder}: another {_who(folder)} is writing there: {advice}") from None
    except OSError as error:
        _remove(made, folder, ())
        why = f"its lock {LOCK} cannot be taken ({error.strerror})"
        raise DataError(f"{folder}: {why}: choose another folder") from error
    removable: Collection[str] = ()
    foreign = False
    try:
        if not isinstance(lock, SoftFileLock):  # which it became on a file system without locks; has its text
            now = datetime.now().isoformat(" ", timespec="seconds")
            place = f"process {os.getpid()} on {platform.node()} since {now}"
            text = f"`{command}` ({place}; {shlex.join(sys.argv)[:200]})"
            (folder / LOCK).write_text(text, encoding="utf-8")
        remove_partials(folder)
        yield
    except (MTMSAError, Preempted, Stopped, KeyboardInterrupt):
        removable = worthless
        foreign = before is not None and _names(folder) == {*before, LOCK} != before
        raise
    finally:
        _remove(made, folder, removable)
        if foreign:  # a process that waits for the removed file tries again
            with suppress(OSError):
                (folder / LOCK).unlink()
        lock.release()


def _names(folder: Path) -> set[str] | None:
    """Return the names in a folder; None if it is missing."""
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else None


def is_empty(folder: Path) -> bool:
    """Return whether a folder is missing, or holds nothing but its lock."""
    return not folder.exists() or (folder.is_dir() and all(entry.name == LOCK for entry in folder.iterdir()))


def holder(folder: Path) -> str | None:
    """Return a description of the process that holds a folder's lock; None if there is none."""
    if not (folder / LOCK).exists():
        return None
    lock = _lock(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return _who(folder)
    except OSError:
        return None  # not writable
    lock.release()
    return None


def _lock(folder: Path) -> FileLock:
    # flock on a folder works on one machine only, on a file open for writing also on network file systems.
    # filelock closes its file in forked processes, so that a worker does not keep the lock.
    return FileLock(folder / LOCK, thread_local=False)


def _who(folder: Path) -> str:
    """Return the content of a lock file."""
    try:
        text = " ".join((folder / LOCK).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        text = ""
    return text or "process"


def _remove(made: Sequence[Path], folder: Path, worthless: Collection[str]) -> None:
    """Remove folders that were made, unless they hold files that are not worthless."""
    if folder not in made or not folder.is_dir():
        return
    files = (file.relative_to(folder) for file in folder.rglob("*") if not file.is_dir())
    if any({file.as_posix(), file.parts[0]}.isdisjoint((LOCK, *worthless)) for file in files):
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty
        for above in made[1:]:
            above.rmdir()
