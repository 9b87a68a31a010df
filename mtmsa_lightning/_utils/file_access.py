"""Find files by names in any Unicode form, and open regular files only.

Opening a pipe, socket or device could block.
"""

import errno
import hashlib
import os
import stat
import unicodedata
from io import BufferedReader
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes; OSError for anything else."""
    try:
        handle = os.open(path, _FLAGS)  # does not block, even if a pipe replaces the file
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this name: {error}", str(path)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a regular file; OSError if it is not one or larger than ``max_bytes``."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
        return file.read()


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a regular file's bytes in hexadecimal digits; OSError if it cannot be read."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_normalised(path: Path, names: dict[Path, dict[str, str]] | None = None) -> Path:
    """Return a path, or the existing one that differs only in Unicode normalisation, as macOS changes it.

    ``names`` is a cache of folder listings, for many calls.
    """
    if str(path).isascii() or os.path.lexists(path) or path == path.parent:
        return path
    names = {} if names is None else names
    parent = find_normalised(path.parent, names)
    if parent not in names:
        try:
            found = [entry.name for entry in parent.iterdir()]
        except (OSError, ValueError):  # not a folder, not readable, or an impossible name
            found = []
        names[parent] = {unicodedata.normalize("NFC", name): name for name in found}
    return parent / names[parent].get(unicodedata.normalize("NFC", path.name), path.name)


def file_state(path: str | Path) -> str:
    """Return size and modification time of a file, to detect a replaced one; "-1" if it is missing."""
    try:
        found = Path(path).stat()
    except OSError:
        return "-1"
    return f"{found.st_size} {found.st_mtime_ns}"
