"""Formats that Pillow or pillow-heif decode: GIF, AVIF and HEIC.

OpenCV's decoder of AVIF allocates what the picture's own header says, whatever that of the file, and its
decoder of GIF is missing in some builds.
"""

import io
import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import install

log = logging.getLogger(__name__)

FORMATS = ("GIF", "AVIF", "HEIC")
"""Names of these formats, see ``image_formats.py``."""


class MissingDecoderError(Exception):
    """The decoder of a format is not installed; the text says what to install."""


def open_photo(data: bytes, kind: str) -> PIL.Image.Image:
    """Open a file of one of ``FORMATS`` without decoding it; its orientation is not applied yet.

    Pillow's global limit of pixels does not hold: the caller compares ``size`` with its own before decoding.
    A HEIC file with a picture larger than its header says is refused by libheif; libavif scales such a
    picture, and refuses one above 2^28 pixels.

    Raises:
        MissingDecoderError: The decoder is not installed.
        Exception: The file is damaged.
    """
    if kind == "HEIC":
        try:
            from pillow_heif.as_plugin import HeifImageFile
        except ImportError as error:
            raise MissingDecoderError(f"a HEIC photo needs the extra `heif`: {install('heif')}") from error
        image: PIL.Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
        return image
    PIL.Image.preinit()
    PIL.Image.init()
    if kind not in PIL.Image.OPEN:
        raise MissingDecoderError(
            f"{kind} needs Pillow 11.3 or later: pip install -U pillow, or convert it to JPEG"
        )
    return PIL.Image.OPEN[kind][0](io.BytesIO(data), "")


def decode(image: PIL.Image.Image, path: str | Path) -> NDArray[np.uint8]:
    """Return the first picture of an opened photo, upright, RGB; log that an animation has further ones."""
    if getattr(image, "is_animated", False):
        _log_animation(str(path))
    return np.array(PIL.ImageOps.exif_transpose(image).convert("RGB"), np.uint8)


@lru_cache(maxsize=4096)  # a training reads a file many times
def _log_animation(path: str) -> None:
    log.info("%s: has several pictures (an animation), of which the first is used", path)
