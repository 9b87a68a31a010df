"""Recognise whole photos in a table of faces without boxes."""

import logging

import numpy as np
import PIL.Image

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.face_table import FaceTable

log = logging.getLogger(__name__)

_SAMPLED = 32
_LARGE = 1200  # pixels of the shorter side, above those of released faces
_PHOTO = 480  # pixels of the shorter side of a photo
_RATIO = 1.3  # of its sides; crops of faces are squarer


def warn_scenes(table: FaceTable) -> None:
    """Warn if most of a sample of images have the size of whole photos, and there are no face boxes."""
    if set(BOX) <= set(table.frame) or not len(table):
        return
    rows = np.linspace(0, len(table) - 1, min(_SAMPLED, len(table))).astype(int)
    sizes = {path: _size(table, path) for path in table.frame["path"].iloc[rows]}
    known = {path: size for path, size in sizes.items() if size}
    photos = {path: size for path, size in known.items() if _is_photo(*size)}
    if len(photos) > len(known) / 2:
        path, (width, height) = next(iter(photos.items()))
        log.warning(
            "%s: %d of a sample of %s look like whole photos, such as %s (%d x %d pixels), and there are no "
            "face boxes: crop the faces with `mtmsa prepare`, or name the columns of the boxes",
            table.report.source, len(photos), pluralize(len(known), "image"), path, width, height,
        )  # fmt: skip


def _is_photo(width: int, height: int) -> bool:
    short, long = sorted((width, height))
    return short >= _LARGE or (short >= _PHOTO and long >= _RATIO * short)


def _size(table: FaceTable, path: str) -> tuple[int, int] | None:
    try:
        with PIL.Image.open(table.root / path) as image:
            return image.size
    except Exception:  # Pillow raises nearly anything for a damaged header; decoding reports it
        return None
