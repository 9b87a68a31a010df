"""Scan of all images, and checks: unreadable, tiny, blurred, or without a face."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.images import (
    MAX_BYTES,
    Image,
    UnreadableImageError,
    central_square,
    decode_reduced,
)
from mtmsa_lightning.align.box import Box, box_rows, crop_box
from mtmsa_lightning.align.detected_face import largest
from mtmsa_lightning.align.detector import FaceDetector
from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.audit.near_duplicates import WORDS, Hashes, perceptual_hash
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.settings.defaults import MIN_SHARPNESS, MIN_SIDE

SHARPNESS_SIDE = 128
"""Side in pixels at which sharpness is measured, so that releases are comparable."""


class Scan(NamedTuple):
    """Properties of the images of a table by row.

    Attributes:
        facts: Columns ``width`` and ``height`` (pixels; 0 unreadable), ``sharpness`` (NaN unreadable),
            ``faces`` (number found, -1 without a detector), ``turned`` (degrees, clockwise, by which the
            image is turned to find its largest face), ``content`` (hash of the file's bytes, 16 hexadecimal
            digits; "" missing) and ``error`` ("" readable).
        hashes: Perceptual hashes, shape (N, 4); zeros for an unreadable image.
    """

    facts: pd.DataFrame
    hashes: Hashes

    @property
    def readable(self) -> "pd.Series[bool]":
        """Whether each image could be decoded."""
        return self.facts["error"] == ""


class _Fact(NamedTuple):
    width: int
    height: int
    sharpness: float
    faces: int
    turned: int
    content: str
    error: str


def scan_images(
    table: FaceTable,
    workers: int,
    advance: Callable[[int], object] = lambda n: None,
    detect: FaceDetector | None = None,
) -> Scan:
    """Decode every image of a table once, in threads.

    Args:
        table: The faces.
        workers: Number of threads.
        advance: Called with 1 after every image.
        detect: Face detector; None skips detection.
    """
    paths = table.frame["path"].tolist()
    images = [*zip(paths, box_rows(table.frame), strict=True)]
    distinct = [*dict.fromkeys(images)]  # repeated rows of a release share a file
    looked = []
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(lambda image: _look(table.root / image[0], image[1], detect), distinct):
            looked.append(result)
            advance(1)
    position = {image: row for row, image in enumerate(distinct)}
    row_of = [position[image] for image in images]
    facts = pd.DataFrame([fact for fact, _ in looked], columns=list(_Fact._fields))
    hashes = np.array([words for _, words in looked], np.uint64).reshape(-1, WORDS)
    return Scan(facts.iloc[row_of].reset_index(drop=True), hashes[row_of])


def sharpness(image: Image) -> float:
    """Return the variance of the Laplacian of the grey central square, scaled to 128 x 128 pixels.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000. On 5,985 faces of UTKFace the
    0.5th, 5th, 50th and 95th percentiles are 11, 21, 91 and 393.
    """
    square = cv2.cvtColor(central_square(image, 1.0), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(square, (SHARPNESS_SIDE, SHARPNESS_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_64F).var())


def _look(file: Path, box: Box | None, detect: FaceDetector | None) -> tuple[_Fact, Hashes]:
    content = ""
    try:
        data = read_regular(file, MAX_BYTES)
        place = b"" if box is None else repr(box).encode()  # faces of one photo are not copies
        content = blake2b(data + place, digest_size=8).hexdigest()
        image, factor = decode_reduced(data, file)
        image = image if box is None else crop_box(image, box, factor=factor)
    except (OSError, UnreadableImageError) as error:
        text = f"{file}: cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        return _Fact(0, 0, float("nan"), -1, 0, content, text), np.zeros(WORDS, np.uint64)
    height, width = image.shape[:2]
    faces = [] if detect is None else detect(image)
    number = -1 if detect is None else len(faces)
    turned = largest(faces).turned if faces else 0
    return _Fact(width, height, sharpness(image), number, turned, content, ""), perceptual_hash(image)


def check_images(
    table: FaceTable, scan: Scan, min_side: int = MIN_SIDE, min_sharpness: float = MIN_SHARPNESS
) -> list[Finding]:
    """Find images that are unreadable, tiny (smallest first), blurred (worst first) or without a face."""
    facts, sharp = scan.facts, scan.facts["sharpness"]
    side = facts[["width", "height"]].min(axis=1)
    tiny = side[scan.readable & (side < min_side)].sort_values(kind="stable").index
    sizes = [f"{facts['width'][row]} x {facts['height'][row]}" for row in tiny]
    blurred = sharp[sharp < min_sharpness].sort_values(kind="stable").index
    text = f"images with a variance of the Laplacian below {min_sharpness:g} at {SHARPNESS_SIDE} px"
    return [
        *found("unreadable", "images that cannot be decoded", facts["error"][~scan.readable].tolist()),
        *_single("tiny", f"images smaller than {min_side} px", table, tiny, sizes),
        *_single("blurred", text, table, blurred, [f"{sharp[row]:.1f}" for row in blurred]),
        *faceless(table, scan),
        *sideways(table, scan),
    ]


def faceless(table: FaceTable, scan: Scan) -> list[Finding]:
    """Find images without a face, by the scan's detector or the record of a prepared set."""
    faces = scan.facts["faces"]
    if (faces < 0).all():
        faces = table.frame.get("faces_found", faces)
    rows = table.frame.index[faces == 0]
    return _single("faceless", "images without a detected face", table, rows, [""] * len(rows))


def sideways(table: FaceTable, scan: Scan) -> list[Finding]:
    """Find images whose largest face lies on its side or upside down, by the scan's detector."""
    turned = scan.facts["turned"]
    rows = table.frame.index[turned > 0]
    details = [f"upright after {turned[row]} degrees clockwise" for row in rows]
    return _single("sideways", "images on their side or upside down", table, rows, details)


def _single(kind: str, what: str, table: FaceTable, rows: pd.Index, details: list[str]) -> list[Finding]:
    ids = table.frame["id"][rows]
    examples = [f"{name}: {detail}".strip(": ") for name, detail in zip(ids, details, strict=True)]
    return found(kind, what, examples, ([row] for row in rows))
