"""Safe extraction of archives from untrusted sources.

Only regular files and folders below the target are written. Links, devices, absolute names and ``..`` raise
an error, because no release contains them. Sizes are counted while extracting, because headers can be wrong.
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
"""Suffixes of the supported archives."""

_CHUNK = 1 << 20
_SPECIAL = "a link or special file, which no release contains"
_LONGEST_NAME = 1000  # characters, folders included; systems take 1,024 to 4,096 bytes for the whole path
_SLACK = 10 << 20  # small files, such as a table of blanks, may have any ratio


class ArchiveError(DataError):
    """An archive that cannot be read: damaged, encrypted or of an unknown format."""


class UnsafeArchiveError(ArchiveError):
    """An archive with an unsafe member: a link, a device, a name outside of the target."""


class ArchiveLimitError(ArchiveError):
    """An archive that exceeds the limits: too many files, too large, or a decompression bomb."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of archives; the defaults suit the largest of the known releases.

    Attributes:
        files: Number of members.
        file_bytes: Size of one file.
        total_bytes: Size of all files.
        ratio: Size of all files divided by that of the archive; about 1 for photos, 10 for tables.
    """

    files: int = 1_000_000
    file_bytes: int = 1 << 30
    total_bytes: int = 200 << 30
    ratio: float = 100.0


class _Member(NamedTuple):
    """A file of an archive: its validated name and a function that opens it."""

    name: PurePosixPath
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive with one of ``SUFFIXES``."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def extract(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> None:
    """Extract an archive, with one of ``SUFFIXES``, to a folder, which is renamed when it is complete.

    An existing folder is kept unchanged. Names that begin with ``__MACOSX/`` are skipped.

    Raises:
        UnsafeArchiveError: A member is a link, a device or other special file, or its name is absolute,
            repeated, or contains ``..``, a backslash, a colon or a control character.
        ArchiveLimitError: It exceeds ``limits`` or the free disk space.
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
    """Counts members and bytes and raises an error above a limit."""

    def __init__(self, archive: Path, limits: ArchiveLimits, free: int) -> None:
        self.archive, self.limits, self.free = archive, limits, free
        self.size = archive.stat().st_size
        self.members = self.total = 0

    def add_member(self) -> None:
        self.members += 1
        if self.members > self.limits.files:
            raise self.error(f"holds more than {self.limits.files:,} members")

    def add_bytes(self, n: int) -> None:
        self.total += n
        self.check_position(self.total)
        if self.total > self.free:
            raise self.error(f"does not fit on the disk, where {self.free:,} bytes are free")

    def check_position(self, n: int) -> None:
        if n > self.limits.total_bytes:
            raise self.error(f"holds more than {self.limits.total_bytes:,} bytes")
        if n > self.limits.ratio * self.size + _SLACK:
            raise self.error(f"unpacks to more than {self.limits.ratio:g} times its own size")

    def check_file(self, name: str, n: int) -> None:
        if n > self.limits.file_bytes:
            raise self.error(f"{name}: larger than {self.limits.file_bytes:,} bytes")

    def error(self, what: str) -> ArchiveLimitError:
        return ArchiveLimitError(
            f"{self.archive}: {what}, nothing was extracted: if you trust it, unpack it by hand and give the "
            "folder"
        )


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Convert the libraries' exceptions for damaged archives to ``ArchiveError``."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        text = f"{archive}: damaged or not an archive ({error}): copy or download it again"
        raise ArchiveError(text) from error
    except RuntimeError as error:  # an encrypted member, an unknown compression
        raise ArchiveError(f"{archive}: cannot be read ({error}): unpack it by hand") from error


def _zip_members(archive: Path, counter: _Counter) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            counter.add_member()
            name = _safe_name(archive, info.orig_filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeArchiveError(f"{archive}: {name}: {_SPECIAL}")
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
                    raise UnsafeArchiveError(f"{archive}: {name}: {_SPECIAL}")
                if info.isreg():
                    counter.check_file(str(name), info.size)
                    yield _Member(name, lambda info=info: opened.extractfile(info))  # type: ignore
                opened.members = []  # type: ignore[attr-defined]  # else all headers are kept in memory


class _Guarded(io.RawIOBase):
    """The decompressed bytes of a tar file, within limits that also apply to headers."""

    def __init__(self, stream: BinaryIO, counter: _Counter) -> None:
        self._stream, self._counter = stream, counter

    def read(self, size: int = -1) -> bytes:
        self._counter.check_file("a header", size)
        data = self._stream.read(size)
        self._counter.check_position(self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    """Validate a member's name, by the same rules on every system."""
    parts = name.removesuffix("/").split("/")
    bad = len(name) > _LONGEST_NAME or any(character in "\\:" or ord(character) < 32 for character in name)
    if bad or any(part in ("", "..") or len(os.fsencode(part)) > 255 for part in parts):
        raise UnsafeArchiveError(
            f"{archive}: {name!r}: a name that is absolute, outside of the archive or not a plain file name"
        )
    return PurePosixPath(*parts)


def _write(member: _Member, folder: Path, counter: _Counter) -> None:
    if member.name.parts[:1] == ("__MACOSX",):  # metadata of macOS
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
        raise UnsafeArchiveError(f"{counter.archive}: {member.name}: the name is repeated") from error
