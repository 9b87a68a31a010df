"""The decoded faces of a prepared set in one array, mapped by every process instead of decoding files.

``pixels.npy`` stands beside ``faces.parquet``: a standard NumPy file, uint8, shape (N, size, size, 3), RGB.
Row i is what ``read_image`` makes of the crop in row i of the table, so that training from either gives the
same metrics. The system's page cache holds what was read once for all workers and ranks of a machine.

``dataset.json`` describes the array under ``pixels``. The entry is what makes the array valid: whoever
changes crops or table removes the entry first and writes it last.
"""

import logging
import math
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.images import Image, read_image
from mtmsa_lightning._utils.writing import replacing
from mtmsa_lightning.data.prepared.format import read_description
from mtmsa_lightning.errors import DataError

log = logging.getLogger(__name__)

PIXELS = "pixels.npy"
_CHUNK = 256  # faces decoded ahead of the writer: 50 MB at 256 pixels
_SAMPLED = 32  # rows that enter the fingerprint: read in milliseconds, and other crops differ in some
_AGAIN = "run `mtmsa prepare` again, or delete the file to train from the image files"


class PixelStore:
    """The faces of a prepared set as one memory-mapped array; made by :func:`open_pixels`.

    The file is mapped by each process at its first read: a pickled or forked store holds no pixels.

    Attributes:
        file: The array's file.
        size: Side of the faces in pixels.
        rows: Row of the array for every path of the set's table, as it stands there and in the form NFC.
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
        """Return the face of a path of the table: a read-only view, shape (size, size, 3)."""
        row = self.rows[path] if path in self.rows else self.rows[unicodedata.normalize("NFC", path)]
        face: Image = self.array[row]
        return face

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "array"}


def write_pixels(root: Path, paths: Sequence[str], size: int) -> dict[str, Any]:
    """Decode the crops of a prepared set into ``pixels.npy``.

    The array gets its name when it is whole: a write that was killed leaves a hidden file, which the next one
    replaces. At most a few hundred faces are in memory at a time.

    Args:
        root: Folder of the prepared set.
        paths: Path of every row of the table, in order, relative to ``root``.
        size: Side of the crops in pixels.

    Returns:
        The entry ``pixels`` of ``dataset.json``, as plain values.

    Raises:
        DataError: There is no path, the disk is too small, or a crop cannot be read or is of another size
            (the message names the file).
    """
    shape = (len(paths), size, size, 3)
    _check_space(root, shape)
    with replacing(root / PIXELS) as partial:
        with partial.open("wb") as stream:
            _write_header(stream, shape)
            for image in _decode(root, paths, size):
                stream.write(image.data)
            stream.flush()
            os.fsync(stream.fileno())
        fingerprint = fingerprint_of(paths, _map(partial))
    return {"file": PIXELS, "shape": list(shape), "dtype": "uint8", "fingerprint": fingerprint}


def open_pixels(root: Path) -> PixelStore | None:
    """Open the pixels of a prepared set, after checking that they belong to its table.

    The check is cheap: shape, length, the table's paths and a sample of rows, by their fingerprint.

    Args:
        root: Folder of the prepared set.

    Returns:
        The store, or None where the set has none and its image files are to be read. An array that was left
        out of a copy of the set is missed in the log only, since the files give the same metrics.

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
        raise DataError(f"{file}: it was written for other faces than {record['table']} lists: {_AGAIN}")
    rows = {unicodedata.normalize("NFC", path): row for row, path in enumerate(paths)}
    return PixelStore(file, array.shape[1], rows | {path: row for row, path in enumerate(paths)})


def _check_space(root: Path, shape: tuple[int, ...]) -> None:
    if not shape[0]:
        raise DataError(f"{root}: there is no face to write to {PIXELS}")
    needed, free = math.prod(shape), shutil.disk_usage(root).free
    if needed > free:
        raise DataError(
            f"{root}: {PIXELS} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "make room, choose smaller crops or do without it"
        )


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


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
    return np.asarray(array)  # a plain view: indexing np.memmap costs more than a face's copy


def fingerprint_of(paths: Sequence[str], array: NDArray[np.uint8]) -> str:
    """Hash all paths and some rows, spread evenly over the array."""
    digest = sha256("\n".join(paths).encode())
    for row in np.linspace(0, len(array) - 1, min(_SAMPLED, len(array))).astype(int):
        digest.update(array[row].tobytes())
    return digest.hexdigest()
