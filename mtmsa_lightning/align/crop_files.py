"""Crop image files in batches, by one or several processes."""

import hashlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait as wait_for_process
from pathlib import Path
from typing import NamedTuple

import cv2

from mtmsa_lightning._utils.atomic_write import write_bytes
from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.images import MAX_BYTES, Image, UnreadableImageError, decode_reduced
from mtmsa_lightning.align.box import Box, crop_box
from mtmsa_lightning.align.crop import Crop, FaceCropper
from mtmsa_lightning.align.detected_face import LANDMARKS
from mtmsa_lightning.align.detector import load_detector
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.settings.defaults import ORIENTATIONS, SMALLEST_FACE

JPEG_QUALITY = 95

BOX_CONTEXT = 0.2
"""Margin around a face box of the table in which the face is searched."""

NO_FACE = "no face found"
"""Reason for skipping a readable image."""

Record = dict[str, str | int | float]
"""The record of one crop: plain values by the names of ``RECORD_COLUMNS``."""

RECORD_COLUMNS: dict[str, str] = {
    "position": "int64",
    "error": "str",
    "faces_found": "int64",
    "score": "float64",
    "turned": "int64",
    **dict.fromkeys(("box_left", "box_top", "box_right", "box_bottom"), "float64"),
    **{f"{name}_{axis}": "float64" for name in LANDMARKS for axis in "xy"},
    **{f"crop_{axis}_from_{source}": "float64" for axis in "xy" for source in ("x", "y", "1")},
    "source_sha256": "str",
    "crop_sha256": "str",
}
"""Columns that cropping adds to the face table, with their dtypes."""


class CropSettings(NamedTuple):
    """Settings of the crops; see :class:`~mtmsa_lightning.align.crop.FaceCropper`.

    Attributes:
        size: Side of the crops in pixels.
        margin: Margin of the canonical position.
        detect: Run the face detector.
        aligned: Release whose landmarks are known, or None.
        keep_faceless: Crop images without a face too, instead of skipping them.
        smallest_face, orientation: See :func:`~mtmsa_lightning.align.detector.load_detector`; the search goes
            beyond the plain detector only where that finds no certain face.
    """

    size: int
    margin: float
    detect: bool
    aligned: str | None
    keep_faceless: bool
    smallest_face: int = SMALLEST_FACE
    orientation: str = ORIENTATIONS[0]

    def cropper(self) -> FaceCropper:
        """Build the cropper, with the detector if ``detect`` is set."""
        search = partial(load_detector, self.smallest_face, self.orientation, crowds=False)
        return FaceCropper(self.size, self.margin, search() if self.detect else None, self.aligned)


class CropJob(NamedTuple):
    """One crop to make: the face's position in the table, its image file, the file to write, and its box.

    In an image with a box the face is searched in the square around it, with a margin of ``BOX_CONTEXT``; the
    record's coordinates are those of this square.
    """

    position: int
    source: str
    crop: str
    box: Box | None = None


def crop_file(cropper: FaceCropper, keep_faceless: bool, job: CropJob) -> Record:
    """Read an image, find its face, and write the crop; ``error`` is empty if it was written."""
    unknown: dict[str, str | int | float] = {"str": "", "int64": -1, "float64": math.nan}
    record: Record = {name: unknown[kind] for name, kind in RECORD_COLUMNS.items()}
    record["position"] = job.position
    try:
        source = read_regular(job.source, MAX_BYTES)
        image, factor = decode_reduced(source, job.source)
        crop = cropper(image if job.box is None else crop_box(image, job.box, BOX_CONTEXT, factor))
        crop = crop.in_file(factor) if job.box is None else crop
    except (OSError, UnreadableImageError) as error:
        return record | {"error": f"cannot be read: {_reason(error, job.source)}"}
    record |= _describe(crop) | {"source_sha256": hashlib.sha256(source).hexdigest()}
    if crop.faces_found == 0 and not keep_faceless:
        return record | {"error": NO_FACE}
    data = encode_crop(crop.image)
    write_bytes(Path(job.crop), data)
    return record | {"crop_sha256": hashlib.sha256(data).hexdigest()}


def crop_batches(
    settings: CropSettings, batches: Iterable[Sequence[CropJob]], workers: int
) -> Iterator[list[Record]]:
    """Make crops and yield the records of each batch when it is done, in any order.

    A process of the ``workers`` works on one batch at a time; 1 uses the current process.

    Raises:
        DataError: A process died, for example out of memory; batches that were yielded are done.
        ConfigError: The detector is not installed.
    """
    if workers == 1:
        cropper = settings.cropper()
        for batch in batches:
            yield [crop_file(cropper, settings.keep_faceless, job) for job in batch]
        return
    # spawned: forking a process with threads (pandas, torch) can deadlock
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (settings,))
    try:
        yield from _results(pool, iter(batches), 2 * workers)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, perhaps out of memory: run the same command again to continue from here, "
            "with fewer --num_workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor, batches: Iterator[Sequence[CropJob]], ahead: int
) -> Iterator[list[Record]]:
    """Submit batches a few ahead of the workers, and yield their results."""
    waiting: set[Future[list[Record]]] = set()
    for batch in batches:
        waiting.add(pool.submit(_crop_batch, batch))
        if len(waiting) >= ahead:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    for future in waiting:
        yield future.result()


_worker: tuple[FaceCropper, bool] | None = None


def _start_worker(settings: CropSettings) -> None:
    """Set up a worker: one thread, Ctrl-C ignored, exit when its parent is killed."""
    global _worker
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    _worker = settings.cropper(), settings.keep_faceless


def end_with_parent() -> None:
    """Exit when the parent process ends; run this in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_process([parent.sentinel])
        os._exit(1)


def _crop_batch(batch: Sequence[CropJob]) -> list[Record]:
    assert _worker is not None
    return [crop_file(*_worker, job) for job in batch]


def _reason(error: Exception, source: str) -> str:
    """Return the error without the file's path, which differs between machines."""
    return error.strerror or "" if isinstance(error, OSError) else str(error).removeprefix(f"{source}: ")


def _describe(crop: Crop) -> Record:
    names = [name for name in RECORD_COLUMNS if "_from_" in name]
    record: Record = dict(zip(names, crop.transform.ravel().tolist(), strict=True))
    record["faces_found"] = crop.faces_found
    if crop.face is not None:
        places = [*crop.face.box.tolist(), *crop.face.landmarks.ravel().tolist()]
        names = [name for name in RECORD_COLUMNS if name.startswith(("box_", *LANDMARKS))]
        record |= dict(zip(names, places, strict=True)) | {
            "score": crop.face.score,
            "turned": crop.face.turned,
        }
    return record


def encode_crop(image: Image) -> bytes:
    """Encode a crop as the JPEG file of a prepared set."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return data.tobytes()
