"""Decode image files to arrays."""

import io
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.opencv_limit import MAX_PIXELS as MAX_PIXELS
from mtmsa_lightning.errors import DataError

Image = NDArray[np.uint8]
"""An RGB image, uint8, shape (height, width, 3)."""

SHARED_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "SUN", "TIFF", "WEBP")
"""Pillow's names of what OpenCV decodes too: a header of any other format would hide what is decoded.

AVIF is not among them: the size in its header (``ispe``) need not be that of the picture that is decoded.
"""

MAX_BYTES = 1 << 30
"""Largest size of an image file, above an uncompressed one of 16 bits with MAX_PIXELS."""


class UnreadableImageError(DataError):
    """A file that is missing, empty, truncated, too large, or not an image."""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file to RGB, uint8, shape (height, width, 3).

    EXIF orientation is applied (OpenCV 4.11 ignores it in WebP); greyscale, palette, CMYK, alpha and 16-bit
    files become 8-bit RGB. OpenCV was the fastest of three decoders (``benchmarks/decode.md``).

    Raises:
        UnreadableImageError: It cannot be decoded, or its header has more than ``max_pixels``.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_image(data, path, max_pixels)


def decode_image(data: bytes, path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the bytes of an image file, see :func:`read_image`; ``path`` is its name in messages."""
    if not data:
        raise UnreadableImageError(f"{path}: not an image that can be decoded (the file is empty)")
    try:
        size = _size_by_header(data)
    except Exception as error:  # Pillow raises nearly anything for a damaged header
        raise UnreadableImageError(f"{path}: not an image that can be decoded") from error
    check_size(str(path), size, max_pixels)
    try:
        # cv2.imread would only warn
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        limit = "; OpenCV decodes more pixels only if OPENCV_IO_MAX_IMAGE_PIXELS is set"
        more = limit if size[0] * size[1] > MAX_PIXELS else ""
        raise UnreadableImageError(f"{path}: not an image that can be decoded{more}") from error
    if image is None or sorted(image.shape[:2]) != sorted(size):  # EXIF orientation may turn it
        raise UnreadableImageError(f"{path}: not an image that can be decoded")
    return np.asarray(image, dtype=np.uint8)


def check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    """Raise UnreadableImageError if width times height is above ``max_pixels``."""
    width, height = size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: too large: {width} x {height} are {width * height / 1e6:.0f} million pixels, the limit "
            f"is {max_pixels / 1e6:.0f} million: shrink it first"
        )


def _size_by_header(data: bytes) -> tuple[int, int]:
    """Return width and height as ``PIL.Image.open`` does, but without its global limit."""
    for register in (PIL.Image.preinit, PIL.Image.init):  # the usual formats, then the rest
        register()
        for opener, accepts in [PIL.Image.OPEN[name] for name in SHARED_FORMATS if name in PIL.Image.OPEN]:
            accepted = accepts is None or accepts(data[:16])
            if not accepted or isinstance(accepted, str):  # a str names what is missing
                continue
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not of this format
                return opener(io.BytesIO(data), "").size
    raise PIL.UnidentifiedImageError


def central_square(image: Image, fraction: float) -> Image:
    """Return the central square whose side is ``fraction`` (above 0, at most 1) of the shorter side."""
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * fraction))
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def unreadable(paths: Iterable[str | Path], workers: int = 8) -> list[str]:
    """Return the error messages of the files that cannot be decoded, in input order."""

    def error_of(path: str | Path) -> str | None:
        try:
            read_image(path)
        except UnreadableImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers) as pool:
        return [message for message in pool.map(error_of, paths) if message is not None]
