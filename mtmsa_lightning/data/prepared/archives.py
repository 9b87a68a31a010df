"""Reading archives that may come from anywhere: nothing is written outside, and nothing without end.

Only plain files below the target are made, with the folders that they need. Links, devices, absolute names
and ``..`` are refused, not skipped: an archive that holds them is not the release that it claims to be. Sizes
are counted while the bytes come out, since headers can lie.
"""

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple, cast

from mtmsa_lightning.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Endings of the archives that are read."""

_CHUNK = 1 << 20
_LONGEST_NAME = 1000  # characters, folders included; systems take 1,024 to 4,096 bytes for the whole path
_SLACK = 10 << 20  # small files of zeros, such as a table of blanks, may shrink by any ratio


class ArchiveError(DataError):
    """An archive that cannot be read: damaged, encrypted or of an unknown kind."""


class UnsafeArchiveError(ArchiveError):
    """An archive with a member that no release holds: a link, a device, a name that leads outside."""


class ArchiveLimitError(ArchiveError):
    """An archive that holds more than a release can: too many files, too large, or a bomb."""


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold; the defaults leave room for the largest of the known releases.

    Attributes:
        files: Number of members.
        file_bytes: Size of one file.
        total_bytes: Size of all files.
        ratio: Size of all files over the size of the archive; photos hardly shrink, tables by ten.
    """

    files: int = 1_000_000
    file_bytes: int = 1 << 30
    total_bytes: int = 200 << 30
    ratio: float = 100.0


class _Member(NamedTuple):
    """A file of an archive: its checked name and how to open it."""

    name: PurePosixPath
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Tell whether a file's name has the ending of an archive that can be read."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def extract(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> None:
    """Extract an archive to a folder that appears when it is whole.

    A folder that is there already is taken for the finished one and left as it is. Names that begin with
    ``__MACOSX/`` are left out.

    Args:
        archive: A file that ends in one of ``SUFFIXES``.
        folder: Folder to make.
        limits: How much the archive may hold.

    Raises:
        UnsafeArchiveError: A member is a link, a device or other special file, or its name is absolute, holds
            ``..``, a backslash, a colon or a control character, or stands twice.
        ArchiveLimitError: It holds more than ``limits`` allow, or than there is room for.
        ArchiveError: It cannot be read.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    counter = _Counter(archive, limits or ArchiveLimits(), shutil.disk_usage(partial).free)
    try:
        with _reading(archive):
            members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
            for member in members(archive, counter):
                _write(member, partial, counter)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Counter:
    """Counts members and bytes and raises at the first above a limit."""

    def __init__(self, archive: Path, limits: ArchiveLimits, free: int) -> None:
        self.archive = archive
        self.limits = limits
        self.members = 0
        self.total = 0
        self.size = archive.stat().st_size
        self.free = free

    def add_member(self) -> None:
        """Count a member of any kind."""
        self.members += 1
        if self.members > self.limits.files:
            raise self.error(f"holds more than {self.limits.files:,} members")

    def add_bytes(self, n: int) -> None:
        """Count bytes that were written."""
        self.total += n
        self.check_position(self.total)
        if self.total > self.free:
            raise self.error(f"does not fit on the disk, where {self.free:,} bytes are free")

    def check_position(self, n: int) -> None:
        """Check how many bytes came out so far."""
        if n > self.limits.total_bytes:
            raise self.error(f"holds more than {self.limits.total_bytes:,} bytes")
        if n > self.limits.ratio * self.size + _SLACK:
            raise self.error(f"unpacks to more than {self.limits.ratio:g} times its own size")

    def check_file(self, name: str, n: int) -> None:
        """Check the size of one file."""
        if n > self.limits.file_bytes:
            raise self.error(f"{name}: larger than {self.limits.file_bytes:,} bytes")

    def error(self, what: str) -> ArchiveLimitError:
        return ArchiveLimitError(
            f"{self.archive}: {what}, so nothing of it is used: if you trust it, unpack it by hand and give "
            "the folder"
        )


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what the libraries raise for a damaged archive into one kind of error."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise ArchiveError(
            f"{archive}: damaged or no archive ({error}): copy or download it again"
        ) from error
    except RuntimeError as error:  # an encrypted member, an unknown compression
        raise ArchiveError(f"{archive}: cannot be read ({error}): unpack it by hand") from error


def _zip_members(archive: Path, counter: _Counter) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            counter.add_member()
            name = _safe_name(archive, info.orig_filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeArchiveError(f"{archive}: {name}: a link or special file, which no release holds")
            if info.is_dir() or kind == stat.S_IFDIR:
                continue
            counter.check_file(str(name), info.file_size)
            yield _Member(name, lambda info=info: opened.open(info))  # type: ignore[misc]


def _tar_members(archive: Path, counter: _Counter) -> Iterator[_Member]:
    packed = archive.name.lower().endswith("gz")
    with gzip.open(archive) if packed else archive.open("rb") as stream:
        guarded = cast(BinaryIO, _Guarded(cast(BinaryIO, stream), counter))
        with tarfile.open(fileobj=guarded, mode="r:") as opened:
            for info in opened:
                counter.add_member()
                name = _safe_name(archive, info.name)
                if not (info.isreg() or info.isdir()):
                    raise UnsafeArchiveError(
                        f"{archive}: {name}: a link or special file, which no release holds"
                    )
                if info.isreg():
                    counter.check_file(str(name), info.size)
                    yield _Member(name, lambda info=info: opened.extractfile(info))  # type: ignore
                opened.members = []  # type: ignore[attr-defined]  # else every header stays in memory


class _Guarded(io.RawIOBase):
    """The unpacked bytes of a tar file, within limits: headers are bytes too, and can be bombs."""

    def __init__(self, stream: BinaryIO, counter: _Counter) -> None:
        self._stream = stream
        self._counter = counter

    def read(self, size: int = -1) -> bytes:
        """Read some bytes."""
        self._counter.check_file("a header", size)
        data = self._stream.read(size)
        self._counter.check_position(self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    """Check a member's name; the same rules on every system, so that an archive is good on all or none."""
    parts = name.removesuffix("/").split("/")
    bad = len(name) > _LONGEST_NAME or any(character in "\\:" or ord(character) < 32 for character in name)
    if (
        bad
        or any(part in ("", "..") for part in parts)
        or any(len(os.fsencode(part)) > 255 for part in parts)
    ):
        raise UnsafeArchiveError(
            f"{archive}: {name!r}: a name that is absolute, leads outside or is no plain file name"
        )
    return PurePosixPath(*parts)


def _write(member: _Member, folder: Path, counter: _Counter) -> None:
    if member.name.parts[:1] == ("__MACOSX",):  # a Mac's notes on each file
        return
    target = folder / member.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("xb") as file:
            size = 0
            while data := source.read(_CHUNK):
                size += len(data)
                counter.check_file(str(member.name), size)
                counter.add_bytes(len(data))
                file.write(data)
    except (FileExistsError, NotADirectoryError) as error:
        raise UnsafeArchiveError(f"{counter.archive}: {member.name}: the name stands twice") from error
