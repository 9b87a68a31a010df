"""Finding and opening files: by names in any Unicode form, and regular files only.

Opening a pipe, socket or device could block or never end.
"""

import errno
import os
import stat
import unicodedata
from io import BufferedReader
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes.

    Raises:
        OSError: It cannot be opened, or is a folder, pipe, socket or device.
    """
    try:
        handle = os.open(path, _FLAGS)  # without blocking, even if a pipe appears in the file's place
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this name: {error}", str(path)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: The file.
        max_bytes: Size above which the file is not read; None reads any.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger than ``max_bytes``.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
        return file.read()


def find_normalised(path: Path, names: dict[Path, dict[str, str]] | None = None) -> Path:
    """Return a path, or the existing one that differs only in how its accents are composed (NFC or NFD).

    Archives and copies by way of macOS change the form of names.

    Args:
        path: Any path.
        names: Listings of folders that were met, for many calls.
    """
    if str(path).isascii() or os.path.lexists(path) or path == path.parent:
        return path
    names = {} if names is None else names
    parent = find_normalised(path.parent, names)
    if parent not in names:
        try:
            found = [entry.name for entry in parent.iterdir()]
        except (OSError, ValueError):  # no folder, not readable, or no possible name
            found = []
        names[parent] = {unicodedata.normalize("NFC", name): name for name in found}
    return parent / names[parent].get(unicodedata.normalize("NFC", path.name), path.name)


def file_state(path: str | Path) -> str:
    """Return size and time of the last change of a file, to notice one that was replaced; "-1" if none."""
    try:
        found = Path(path).stat()
    except OSError:
        return "-1"
    return f"{found.st_size} {found.st_mtime_ns}"
