"""Folders that commands write to: made, checked and locked."""

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

from mtmsa_lightning._utils.signals import Stopped
from mtmsa_lightning._utils.writing import remove_partials
from mtmsa_lightning.errors import DataError, MTMSAError, Preempted

LOCK = ".lock"
"""The lock's file, inside the folder. It stays there: to remove it could let two processes hold the lock."""

PATIENCE = 1.0
"""Seconds to wait for a lock, which :func:`holder` holds for a moment to look."""


def check_folder(folder: Path) -> None:
    """Refuse a folder for results that cannot be made or written to, without making it.

    Raises:
        DataError: Something above it is no folder, or it may not be written to.
    """
    there = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        why = "may not be written to" if there.is_dir() else "is a file"
        raise DataError(f"{folder}: nothing can be written there: {there} {why}: choose another")


def make_folder(folder: Path) -> list[Path]:
    """Make a folder for results, with those above it, if it is not there.

    Returns:
        The folders that were made, innermost first; of two processes that make a folder at once, one has it
        among them.

    Raises:
        DataError: It cannot be made or written to; so it is known before any long work.
    """
    made: list[Path] = []
    try:
        for each in reversed((folder, *folder.parents)):
            try:
                each.mkdir()
                made.insert(0, each)
            except OSError:  # there, or above a place that may be written to, such as / itself
                if not each.is_dir():
                    raise
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{folder}: nothing can be written there ({error.strerror}): choose another"
        ) from error
    return made


@contextmanager
def locked(
    folder: Path,
    command: str,
    made: Sequence[Path] = (),
    worthless: Collection[str] = (),
    wait: float = PATIENCE,
) -> Iterator[None]:
    """Lock a folder against other processes; the lock ends with this process, however it ends.

    A folder that was made here is removed at the end, with the folders above it that were made, if it is
    empty, or if the command failed in a way that the user can mend and left worthless files only. A folder
    that was there is left without the lock's file if the command failed so and added nothing to it.

    Args:
        folder: The folder; it is made if it is not there.
        command: What writes to it, as a user would type it.
        made: Folders that the caller has made for this, innermost first.
        worthless: Files and folders, by their paths inside the folder, that are of no use after a failure
            if there are no others.
        wait: Seconds to wait for another process.

    Raises:
        DataError: Nothing can be written there, or another process is writing there.
    """
    before = _names(folder)
    made = [*made, *make_folder(folder)]
    lock = _lock(folder)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise DataError(
            f"{folder}: another {_who(folder)} is writing there: wait for it or stop it, or choose another "
            "folder"
        ) from None
    except OSError as error:
        _remove(made, folder, ())
        raise DataError(
            f"{folder}: its lock {LOCK} cannot be taken ({error.strerror}): choose another folder"
        ) from error
    removable: Collection[str] = ()
    foreign = False
    try:
        if not isinstance(
            lock, SoftFileLock
        ):  # which it became if the file system has no locks; it has its own text
            (folder / LOCK).write_text(_holder(command), encoding="utf-8")
        remove_partials(folder)
        yield
    except (MTMSAError, Preempted, Stopped, KeyboardInterrupt):
        removable = worthless
        foreign = before is not None and _names(folder) == {*before, LOCK} != before
        raise
    finally:
        _remove(made, folder, removable)
        if foreign:  # who waits for a file that is removed tries anew
            with suppress(OSError):
                (folder / LOCK).unlink()
        lock.release()


def _names(folder: Path) -> set[str] | None:
    """Return the names in a folder; None if it is not there."""
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else None


def is_empty(folder: Path) -> bool:
    """Return whether a folder is absent, or holds nothing but its lock."""
    return not folder.exists() or (folder.is_dir() and all(entry.name == LOCK for entry in folder.iterdir()))


def holder(folder: Path) -> str | None:
    """Return what writes to a folder at the moment, in words; None if nothing does."""
    if not (folder / LOCK).exists():
        return None
    lock = _lock(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return _who(folder)
    except OSError:
        return None  # not ours to write to
    lock.release()
    return None


def _lock(folder: Path) -> FileLock:
    # flock on a folder excludes processes of one machine only; on a file that is open for writing, Linux asks
    # the server of a network file system. filelock closes its file in forked processes, so that a worker
    # that survives its parent does not keep the lock.
    return FileLock(folder / LOCK, thread_local=False)


def _holder(command: str) -> str:
    now = datetime.now().isoformat(" ", timespec="seconds")
    place = f"process {os.getpid()} on {platform.node()} since {now}"
    return f"`{command}` ({place}; {shlex.join(sys.argv)[:200]})"


def _who(folder: Path) -> str:
    """Return what the file of a lock says of its holder."""
    try:
        text = " ".join((folder / LOCK).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        text = ""
    return text or "process"


def _remove(made: Sequence[Path], folder: Path, worthless: Collection[str]) -> None:
    """Remove folders that were made, as far as nothing of worth is in them."""
    if folder not in made or not folder.is_dir():
        return
    files = (file.relative_to(folder) for file in folder.rglob("*") if not file.is_dir())
    if any({file.as_posix(), file.parts[0]}.isdisjoint((LOCK, *worthless)) for file in files):
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty any more
        for above in made[1:]:
            above.rmdir()
