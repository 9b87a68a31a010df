"""Files of a release: one listing of its images, content hashes, tables with true line numbers."""

import csv
import difflib
import io
import os
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.data.suffixes import IMAGE_SUFFIXES
from mtmsa_lightning.data.table import ReadReport
from mtmsa_lightning.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader  # the csv module exports no name for its reader's type

_AT_A_TIME = 256
"""Files that the threads which hash are given together."""


class ImageListing:
    """The images below a folder: a sorted collection of relative paths that also finds near-equal names.

    Copies of a release often change ``.JPG`` to ``.jpg`` or the form of an accent; such names are found too.

    Attributes:
        others: Relative paths of the files that are no images, sorted.
    """

    def __init__(self, paths: Iterable[str], others: Iterable[str] = ()) -> None:
        self.others = sorted(others)
        self._paths = dict.fromkeys(sorted(paths))
        self._folded: dict[str, str] = {}
        for path in self._paths:
            self._folded.setdefault(_fold(path), path)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def find(self, path: str) -> str | None:
        """Return the listed path that ``path`` means, an exact match first; ``None`` when there is none."""
        return path if path in self._paths else self._folded.get(_fold(path))


def list_images(root: Path) -> ImageListing:
    """List the images below ``root`` in one pass; links are followed, hidden files (``._x.jpg``) left out.

    Args:
        root: Folder; the listed paths are relative to it, with forward slashes.

    Raises:
        DataError: A folder cannot be read.
    """
    paths: list[str] = []
    others: list[str] = []
    folders, seen = [""], set[str]()
    while folders:
        folder = folders.pop()
        real = os.path.realpath(root / folder)
        if real in seen:  # a link back to a folder above would never end
            continue
        seen.add(real)
        for entry in _scan(root / folder):
            if entry.is_dir():
                folders.append(posixpath.join(folder, entry.name))
            else:
                is_image = posixpath.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
                (paths if is_image else others).append(posixpath.join(folder, entry.name))
    return ImageListing(paths, others)


def find_file(root: Path, name: str) -> Path | None:
    """Find a file by name, whatever its capitals, in ``root`` or one folder below; ``None`` if absent."""
    if not root.is_dir():
        return None
    below = sorted(root / entry.name for entry in _scan(root) if entry.is_dir())
    for folder in (root, *below):
        for entry in sorted(_scan(folder), key=lambda entry: entry.name):
            if entry.name.lower() == name.lower() and entry.is_file():
                return folder / entry.name
    return None


def has_folder(root: Path, name: str) -> bool:
    """Tell whether ``root`` holds a folder of that name, whatever its capitals."""
    return root.is_dir() and any(
        entry.name.lower() == name.lower() and entry.is_dir() for entry in _scan(root)
    )


def locate(
    rows: pd.DataFrame, column: str, listing: ImageListing, report: ReadReport, absent: DataError
) -> pd.DataFrame:
    """Add the column ``path`` of the listed image that ``column`` means and drop rows without one.

    Args:
        rows: Rows whose index holds their line numbers.
        column: Column with the path as the table states it.
        listing: The images that exist.
        report: Gets the dropped rows, with the reason "file not found".
        absent: Raised when not one image is found.
    """
    paths = pd.Series([listing.find(path) for path in rows[column]], index=rows.index, dtype=object)
    if len(rows) and not paths.notna().any():
        raise absent
    return report.drop_rows(rows.assign(path=paths), paths.isna(), column, "file not found")


def hash_files(
    paths: Sequence[Path], workers: int | None = None, unreadable: int | None = None
) -> npt.NDArray[np.uint64]:
    """Hash the bytes of files, 64 bit blake2b, in threads.

    Args:
        paths: The files.
        workers: Number of threads; ``None`` takes one per core, at most eight.
        unreadable: What stands for the hash of a file that cannot be read; ``None`` raises instead.

    Raises:
        DataError: A file cannot be read and ``unreadable`` is None; the message names it.
    """

    def hash_or_default(path: Path) -> int:
        try:
            return _hash_file(path)
        except DataError:
            if unreadable is None:
                raise
            return unreadable

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        # a few at a time: whatever a pool was given is done before the process may end
        starts = range(0, len(paths), _AT_A_TIME)
        hashes = chain.from_iterable(
            pool.map(hash_or_default, paths[start : start + _AT_A_TIME]) for start in starts
        )
        return np.fromiter(hashes, np.uint64, len(paths))


def hash_ids(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Hash texts, 64 bit blake2b of their UTF-8 form: the same on every platform."""
    return np.fromiter((_to_integer(text.encode()) for text in ids), np.uint64)


def content_column(root: Path, paths: Iterable[str]) -> list[str]:
    """Return the content hash (16 hexadecimal digits) of every image: equal for exact copies.

    A file that cannot be read has "".
    """
    hashes = hash_files([root / path for path in paths], unreadable=0)
    return [f"{value:016x}" if value else "" for value in hashes]


def sniff(path: Path) -> tuple[str, set[str]]:
    """Return the delimiter of a table and the names in its header in lower case.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    delimiter = max(",\t;", key=header.count)
    return delimiter, {cell.strip().strip('"').lower() for cell in header.split(delimiter)}


def read_delimited(path: Path, delimiter: str, required: Sequence[str], report: ReadReport) -> pd.DataFrame:
    """Read a text table as it stands: all cells are texts, "None" and empty cells included.

    Args:
        path: A UTF-8 file with a header line.
        delimiter: One character. Quotes have no meaning in tab separated files.
        required: Columns that must exist; capitals in the file's header may differ.
        report: Gets the number of rows read and the rows whose number of cells differs from the header's.

    Returns:
        One column per name in the header; the index (``line``) is the line on which the row starts, from 1.

    Raises:
        DataError: The file cannot be read, a required column is missing or a name stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    stream = io.StringIO(text)
    if delimiter == "\t":
        reader = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(stream, delimiter=delimiter)
    try:
        header = _header(path, next(reader, []), required)
        lines, rows = _body(reader, len(header), report)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}; is a quote left open?") from error
    frame = pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="line", dtype="int64"), dtype="str")
    return frame[[name for name in header if name]]


def expected_tree_error(root: Path, what: str, tree: str) -> DataError:
    """Return the error for a missing folder or file, which shows the tree that is expected.

    Args:
        root: The folder that was searched.
        what: What is missing, as the start of the sentence "... in <root>".
        tree: The expected files, one a line.
    """
    place = f" in {root}" if root.is_dir() else f": the folder {root} does not exist"
    return DataError(f"{what}{place}\nexpected:\n{tree.strip()}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` for the closest of ``names``, or nothing when none is close."""
    close = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _scan(folder: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith(".") and _is_text(entry.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8: no table can hold or print such a name
        return False
    return True


def _to_integer(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _hash_file(path: Path) -> int:
    try:
        return _to_integer(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _header(path: Path, cells: list[str], required: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    lower = [name.lower() for name in header]
    for name in required:
        if name not in header and lower.count(name.lower()) == 1:
            header[lower.index(name.lower())] = name
    missing = [name for name in required if name not in header]
    if missing:
        hints = ", ".join(f"{name!r}{nearest(name, header)}" for name in missing)
        raise DataError(f"{path}: no column {hints}; the header has {header}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} stands more than once in the header")
    return header


def _body(reader: "Reader", width: int, report: ReadReport) -> tuple[list[int], list[list[str]]]:
    lines, rows = [], []
    line = reader.line_num + 1
    for row in reader:
        if any(row):
            report.read += 1
            if len(row) == width or (len(row) > width and not any(row[width:])):
                lines.append(line)
                rows.append(row[:width])
            else:
                item = " ".join(row)[:60]
                report.drop(line, item, f"{len(row)} cells where the header has {width}")
        line = reader.line_num + 1
    return lines, rows
