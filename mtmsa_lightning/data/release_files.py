"""Files of a release: image listings, content hashes and text tables."""

import codecs
import csv
import difflib
import hashlib
import io
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.file_access import find_normalised, open_regular
from mtmsa_lightning._utils.image_formats import READ, REMEDIES, told_format
from mtmsa_lightning._utils.image_suffixes import IMAGE_SUFFIXES
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader  # the csv module exports no name for its reader's type

_AT_A_TIME = 256
"""Number of files that are submitted to the hashing threads together."""

REPLACED = "\ufffd"
"""Replacement in a table's texts for bytes that are not UTF-8."""

NOT_REGULAR = "not a regular file (a broken link, pipe, socket or device)"
"""Reason for dropping a listed file."""

_LONGEST_HEADER = 1 << 20  # bytes


class ImageListing:
    """The images below a folder: a sorted collection of relative paths.

    Attributes:
        others: Sorted paths of the files that are not images.
        unread: Format by path, of those among ``others`` that hold photos in a format that is not read.
        irregular: Sorted paths with an image suffix that are not regular files, such as broken links.
    """

    def __init__(
        self,
        paths: Iterable[str],
        others: Iterable[str] = (),
        irregular: Iterable[str] = (),
        unread: Mapping[str, str] | None = None,
    ) -> None:
        self.others = sorted(others)
        self.unread = dict(unread or {})
        self.irregular = sorted(irregular)
        self._paths = dict.fromkeys(sorted(paths))
        self._folded: dict[str, str] = {}
        for path in self._paths:
            self._folded.setdefault(fold_name(path), path)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def find(self, path: str) -> str | None:
        """Return the listed path for ``path``, ignoring case and Unicode normalisation, or None."""
        return path if path in self._paths else self._folded.get(fold_name(path))


def list_images(root: Path) -> ImageListing:
    """List the images below ``root``, with forward slashes.

    Files with an image's suffix are not opened; others, also those without a suffix, are images by their
    content. Links are followed. Hidden files (``._x.jpg``) are skipped.

    Raises:
        DataError: A folder cannot be read.
    """
    paths, others, irregular = list[str](), list[str](), list[str]()
    unread: dict[str, str] = {}
    folders, seen = [""], set[str]()
    while folders:
        folder = folders.pop()
        real = os.path.realpath(root / folder)
        if real in seen:  # links can form a circle
            continue
        seen.add(real)
        for entry in _scan(root / folder):
            path = posixpath.join(folder, entry.name)
            if _is(entry, "dir"):
                folders.append(path)
            elif posixpath.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                (paths if _is(entry, "file") else irregular).append(path)
            elif (kind := told_format(root / path)) in READ:
                paths.append(path)
            else:
                others.append(path)
                unread |= {path: kind} if kind in REMEDIES else {}
    return ImageListing(paths, others, irregular, unread)


def listing_report(listing: ImageListing, root: Path) -> ReadReport:
    """Return the report of a dataset without a table; files that are not regular are dropped."""
    report = ReadReport(str(root), read=len(listing) + len(listing.irregular))
    for position, path in enumerate(listing.irregular, start=len(listing) + 1):
        report.drop(position, path, NOT_REGULAR)
    return report


def find_file(root: Path, name: str, depth: int = 1) -> Path | None:
    """Find a file by name, ignoring case, in ``root`` or folders at most ``depth`` below; None if absent."""
    folders = [root] if root.is_dir() else []
    for level in range(depth + 1):
        below: list[Path] = []
        for folder in folders:
            entries = sorted(_scan(folder), key=lambda entry: entry.name)
            for entry in entries:
                if entry.name.lower() == name.lower() and _is(entry, "file"):
                    return folder / entry.name
            below += [folder / entry.name for entry in entries if level < depth and _is(entry, "dir")]
        folders = below
    return None


def fold_name(path: str) -> str:
    """Return a path without differences of case and Unicode normalisation."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def has_folder(root: Path, name: str) -> bool:
    """Return whether ``root`` has a folder of that name, ignoring case."""
    return root.is_dir() and any(
        entry.name.lower() == name.lower() and _is(entry, "dir") for entry in _scan(root)
    )


def locate(
    rows: pd.DataFrame, column: str, listing: ImageListing, report: ReadReport, absent: DataError
) -> pd.DataFrame:
    """Add the column ``path`` with the listed image for ``column``, and drop rows without an image.

    Args:
        rows: Rows with line numbers as index.
        column: Column with the path as written in the table.
        listing: The images that exist.
        report: Report of the dropped rows.
        absent: Error to raise if no image is found at all.
    """
    if rows.empty:
        report.finish(strict=False)
    paths = pd.Series([listing.find(path) for path in rows[column]], index=rows.index, dtype=object)
    if not paths.notna().any():
        raise absent
    irregular = rows[column].isin(listing.irregular)
    rows = report.drop_rows(rows.assign(path=paths), irregular, column, NOT_REGULAR)
    undecoded = rows["path"].isna() & rows[column].str.contains(REPLACED, regex=False)
    rows = report.drop_rows(rows, undecoded, column, "file not found; the table is not saved as UTF-8")
    return report.drop_rows(rows, rows["path"].isna(), column, "file not found")


def hash_files(paths: Sequence[Path]) -> npt.NDArray[np.uint64]:
    """Hash the bytes of files, 64 bit blake2b, in threads; 0 for a file that cannot be read."""
    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        # a few at a time: a process can only end after all submitted work
        starts = range(0, len(paths), _AT_A_TIME)
        hashes = chain.from_iterable(pool.map(_hash_file, paths[at : at + _AT_A_TIME]) for at in starts)
        return np.fromiter(hashes, np.uint64, len(paths))


def hash_ids(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Hash texts, 64 bit blake2b of their UTF-8 form."""
    return np.fromiter((int.from_bytes(_blake2b(text.encode()).digest(), "big") for text in ids), np.uint64)


def hash_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 (hexadecimal) of texts, one per line."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def content_column(root: Path, paths: Iterable[str]) -> list[str]:
    """Return the content hash (16 hexadecimal digits) of every image, or "" if it cannot be read."""
    hashes = hash_files([root / path for path in paths])
    return [f"{value:016x}" if value else "" for value in hashes]


def sniff(path: Path) -> tuple[str, list[str]]:
    """Return the delimiter of a table and the names in its header.

    Raises:
        DataError: The file cannot be read.
    """
    text = _read_text(path, _LONGEST_HEADER)
    first = re.sub(r'"[^"]*"', "", text).partition("\n")[0]
    delimiter = max(",\t;", key=first.count)
    try:
        return delimiter, [cell.strip() for cell in next(_reader(text, delimiter), [])]
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read: {error}; is a quote left open?") from error


def read_delimited(path: Path, delimiter: str, required: Sequence[str], report: ReadReport) -> pd.DataFrame:
    """Read a text table without any conversion: all cells are texts, also "None" and empty cells.

    Args:
        path: A UTF-8 file (or UTF-16 with a byte order mark) with a header line.
        delimiter: One character. Quotes are ordinary characters in tab-separated files.
        required: Columns that must exist, ignoring case.
        report: Report of the rows; those with a wrong number of cells are dropped.

    Returns:
        One column per name in the header; the index (``line``) is the line on which a row starts, from 1.

    Raises:
        DataError: The file cannot be read, has no rows or ends within a row, a required column is missing or
            a name is repeated.
    """
    text = _read_text(path)
    reader = _reader(text, delimiter)
    try:
        header = _header(path, next(reader), required)
        lines, rows = _body(path, reader, header, report, text.endswith("\n"))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}; is a quote left open?") from error
    frame = pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="line", dtype="int64"), dtype="str")
    return frame[[name for name in header if name]]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without a header, without space around them and empty lines at the end.

    Raises:
        DataError: The file cannot be read or is empty.
    """
    return [line.strip() for line in _read_text(path).rstrip().split("\n")]


def expected_tree_error(root: Path, what: str, tree: str) -> DataError:
    """Return the error that ``what`` is missing in ``root``, with the expected ``tree``."""
    place = f" in {root}"
    if not root.is_dir():
        place = f": the folder {root} does not exist: give another root (fit: --data.root) or set MTMSA_DATA"
    return DataError(f"{what}{place}\nexpected:\n{tree.strip()}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` for the closest of ``names``, or an empty text."""
    names = [other for other in names if len(other) < 100]  # comparing long names is slow
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _scan(folder: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_text = (
                    entry.name.encode(errors="ignore").decode() == entry.name
                )  # else it cannot be printed
                if is_text and not entry.name.startswith("."):
                    yield entry
    except (OSError, ValueError) as error:  # a name with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{folder}: cannot be listed: {why}") from error


def _is(entry: "os.DirEntry[str]", kind: Literal["dir", "file"]) -> bool:
    """Return whether an entry, or its link target, is a folder or a regular file."""
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # links in a circle
        return False


_blake2b = partial(blake2b, digest_size=8)


def _hash_file(path: Path) -> int:
    try:
        with open_regular(path) as file:
            return int.from_bytes(hashlib.file_digest(file, _blake2b).digest(), "big")
    except OSError:
        return 0


def _read_text(path: Path, most: int = -1) -> str:
    """Return the text of a table with Unix line ends; invalid bytes become ``REPLACED``."""
    try:
        with open_regular(find_normalised(path)) as file:
            data = file.read(most)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = data.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return text


def _reader(text: str, delimiter: str) -> "Reader":
    lines = io.StringIO(text)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)


def _header(path: Path, cells: list[str], required: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    lower = [name.lower() for name in header]
    for name in required:
        if name not in header and lower.count(name.lower()) == 1:
            header[lower.index(name.lower())] = name
    missing = [name for name in required if name not in header]
    if missing:
        hints = ", ".join(f"{name!r}{nearest(name, header)}" for name in missing)
        raise DataError(f"{path}: no column {hints}; the header has [{shown(header)}]")
    twice = sorted(name for name, count in Counter(header).items() if name and count > 1)
    if twice:
        raise DataError(f"{path}: column {shown(twice[:1])} is repeated in the header")
    return header


def _body(
    path: Path, reader: "Reader", header: list[str], report: ReadReport, ended: bool
) -> tuple[list[int], list[list[str]]]:
    """Return the rows that fit the header, with their lines; ``ended``: the file ends with a line break."""
    lines: list[int] = []
    rows: list[list[str]] = []
    last: tuple[int, list[str]] | None = None
    width, line = len(header), reader.line_num + 1
    for row in reader:
        if any(row):
            report.read += 1
            last = line, row
            if len(row) == width or (len(row) > width and not any(row[width:])):
                lines.append(line)
                rows.append(row[:width])
            else:
                report.drop(line, " ".join(row)[:60], f"{len(row)} cells where the header has {width}")
        line = reader.line_num + 1
    if last is None:
        raise DataError(f"{path}: has a header, but no rows")
    if not ended:
        _check_end(path, header, *last, [row[-1] for row in rows[:-1]])
    if not rows:
        raise DataError(f"{path}: no row fits the header: {report.dropped[-1]}")
    return lines, rows


def _check_end(path: Path, header: list[str], line: int, row: list[str], before: list[str]) -> None:
    """Raise if the last row, without an end of line, lacks cells that all rows before it have."""
    missing = header[len(row) :] or (header[-1:] if before and all(before) and not row[-1] else [])
    if missing:
        raise DataError(
            f"{path}: line {line}: the file ends within this row, before {shown(missing)}: it is probably "
            "truncated: copy it again, or complete the row and end it with a line break"
        )
