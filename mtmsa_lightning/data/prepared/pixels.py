"""The decoded faces of a prepared set in one memory-mapped array.

``pixels.npy`` is a NumPy file, uint8, shape (N, size, size, 3), RGB. Row i equals the decoded crop of row i
of ``faces.parquet``, so that training from either gives the same results. ``dataset.json`` describes it under
``pixels``: code that changes crops or table removes this entry first and writes it last.
"""

import logging
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.atomic_write import replacing
from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.images import Image, read_image
from mtmsa_lightning.data.prepared.format import read_description
from mtmsa_lightning.errors import DataError

log = logging.getLogger(__name__)

PIXELS = "pixels.npy"
_CHUNK = 256  # faces decoded ahead of the writer: 50 MB at 256 pixels
_SAMPLED = 32  # rows in the fingerprint: fast to read, and other crops differ in some
_AGAIN = "run `mtmsa prepare` again, or delete the file to train from the image files"


class PixelStore:
    """The faces of a prepared set as one memory-mapped array; see :func:`open_pixels`.

    Each process maps the file at its first read; a pickled store contains no pixels.

    Attributes:
        file: The array's file.
        size: Side of the faces in pixels.
        rows: Row of the array for every path of the table, as written there and normalised to NFC.
    """

    def __init__(self, file: Path, size: int, rows: dict[str, int]) -> None:
        self.file = file
        self.size = size
        self.rows = rows

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """All faces, RGB, shape (N, size, size, 3), read-only."""
        return _map(self.file)

    def read(self, path: str) -> Image:
        """Return the face for a path of the table: a read-only view, shape (size, size, 3)."""
        row = self.rows[path] if path in self.rows else self.rows[unicodedata.normalize("NFC", path)]
        return np.asarray(self.array[row])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "array"}


def write_pixels(root: Path, paths: Sequence[str], size: int) -> dict[str, Any]:
    """Decode the crops of a prepared set into ``pixels.npy``.

    A killed process leaves a hidden file, which the next one replaces.

    Args:
        root: Folder of the prepared set.
        paths: Path of every row of the table, in order, relative to ``root``.
        size: Side of the crops in pixels.

    Returns:
        The entry ``pixels`` of ``dataset.json``, as plain values.

    Raises:
        DataError: There are no paths, the disk is too small, or a crop cannot be read or has another size.
    """
    shape = (len(paths), size, size, 3)
    if not paths:
        raise DataError(f"{root}: there are no faces to write to {PIXELS}")
    check_space(root, len(paths), size)
    with replacing(root / PIXELS) as partial:
        with partial.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for image in _decode(root, paths, size):
                stream.write(image.data)
            stream.flush()
            os.fsync(stream.fileno())
        fingerprint = fingerprint_of(paths, _map(partial))
    return {"file": PIXELS, "shape": list(shape), "dtype": "uint8", "fingerprint": fingerprint}


def open_pixels(root: Path) -> PixelStore | None:
    """Open the pixels of a prepared set after checking that they match its table.

    Shape, length, and the fingerprint of the table's paths and a sample of rows are compared.

    Returns:
        The store, or None if the set has none or its file is missing, and image files must be read.

    Raises:
        DataError: The array is damaged or was written for another table.
    """
    record = read_description(root)
    entry = record.get("pixels")
    if entry is None:
        return None
    file = root / PIXELS
    if not file.is_file():
        log.warning("%s is missing: the image files are read instead, which is slower", file)
        return None
    paths = pd.read_parquet(root / record["table"], columns=["path"])["path"].tolist()
    try:
        array = _map(file)
        whole = entry["shape"] == [len(paths), *array.shape[1:]] == list(array.shape)
        fits = whole and array.dtype == np.uint8 and entry["fingerprint"] == fingerprint_of(paths, array)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise DataError(f"{file}: cannot be read ({error}): {_AGAIN}") from error
    if not fits:
        raise DataError(f"{file}: it was written for other faces than those in {record['table']}: {_AGAIN}")
    rows = {unicodedata.normalize("NFC", path): row for row, path in enumerate(paths)}
    return PixelStore(file, array.shape[1], rows | {path: row for row, path in enumerate(paths)})


def check_space(root: Path, faces: int, size: int) -> None:
    """Raise an error if the disk has no room for ``pixels.npy``."""
    needed, free = faces * size * size * 3, shutil.disk_usage(root).free
    if needed > free:
        raise DataError(
            f"{root}: {PIXELS} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "free some space, choose smaller crops or use --pixels false"
        )


def _decode(root: Path, paths: Sequence[str], size: int) -> Iterator[Image]:
    """Decode crops in threads, a chunk at a time, and yield them in order."""

    def read(path: str) -> Image:
        image = read_image(root / path)
        if image.shape != (size, size, 3):
            raise DataError(f"{root / path}: {image.shape[1]} x {image.shape[0]} pixels, not {size} x {size}")
        return np.ascontiguousarray(image)

    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        for start in range(0, len(paths), _CHUNK):
            yield from pool.map(read, paths[start : start + _CHUNK])


def _map(file: Path) -> NDArray[np.uint8]:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    return np.asarray(array)  # a plain view: indexing np.memmap is slow


def fingerprint_of(paths: Sequence[str], array: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of all paths and some evenly spaced rows."""
    digest = sha256("\n".join(paths).encode())
    for row in np.linspace(0, len(array) - 1, min(_SAMPLED, len(array))).astype(int):
        digest.update(array[row].tobytes())
    return digest.hexdigest()
