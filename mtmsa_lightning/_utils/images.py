"""Decode image files to arrays."""

import io
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.image_formats import HEAD, format_of, remedy
from mtmsa_lightning._utils.opencv_limit import MAX_PIXELS as MAX_PIXELS
from mtmsa_lightning._utils.pillow_formats import FORMATS, MissingDecoderError, decode, open_photo
from mtmsa_lightning.errors import DataError

Image = NDArray[np.uint8]
"""An RGB image, uint8, shape (height, width, 3)."""

SHARED_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "SUN", "TIFF", "WEBP")
"""Pillow's names of what OpenCV decodes too: a header of any other format would hide what is decoded.

AVIF is not among them: the size in its header (``ispe``) need not be that of the picture that OpenCV decodes.
"""

MAX_BYTES = 1 << 30
"""Largest size of an image file, above an uncompressed one of 16 bits with MAX_PIXELS."""


REDUCTION = 2
"""Factor by which the sides of JPEG photos of more than the limit of pixels are reduced.

libjpeg decodes at this size: up to 256 million pixels (phones have 108 and 200) take the memory of 64.
"""


class UnreadableImageError(DataError):
    """A file that is missing, empty, truncated, too large, or not an image."""


class Photo(NamedTuple):
    """A decoded photo; ``factor`` is the number of the file's pixels along a side of each of its pixels."""

    image: Image
    factor: int = 1


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file to RGB, uint8, shape (height, width, 3).

    EXIF orientation is applied (OpenCV 4.11 ignores it in WebP); greyscale, palette, CMYK, alpha and 16-bit
    files become 8-bit RGB. OpenCV was the fastest of three decoders (``benchmarks/decode.md``); Pillow and
    pillow-heif decode what it lacks. The format is told by the content, not by the suffix.

    Raises:
        UnreadableImageError: It cannot be decoded, or its header has more than ``max_pixels``.
    """
    return decode_image(_bytes_of(path), path, max_pixels)


def read_reduced(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode an image file as :func:`read_image`, but a large JPEG photo at half its sides.

    Raises:
        UnreadableImageError: As there; a JPEG file may have ``REDUCTION ** 2`` times ``max_pixels`` unless it
            is progressive, because libjpeg keeps such a file in memory at its full size.
    """
    return decode_reduced(_bytes_of(path), path, max_pixels)


def decode_image(data: bytes, path: str | Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the bytes of an image file, see :func:`read_image`; ``path`` is its name in messages."""
    return _decode(data, path, max_pixels, may_reduce=False).image


def decode_reduced(data: bytes, path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode the bytes of an image file, see :func:`read_reduced`; ``path`` is its name in messages."""
    return _decode(data, path, max_pixels, may_reduce=True)


def _bytes_of(path: str | Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error.strerror})") from error


def _decode(data: bytes, path: str | Path, max_pixels: int, may_reduce: bool) -> Photo:
    if not data:
        raise UnreadableImageError(f"{path}: not an image that can be decoded (the file is empty)")
    if unread := remedy(data, path):
        raise UnreadableImageError(f"{path}: not an image that can be decoded ({unread})")
    if (kind := format_of(data[:HEAD])) in FORMATS:
        return Photo(_by_pillow(data, path, kind, max_pixels))
    try:
        header = _header(data)
    except Exception as error:  # Pillow raises nearly anything for a damaged header
        raise UnreadableImageError(f"{path}: not an image that can be decoded") from error
    size = header.size
    factor = REDUCTION if may_reduce and size[0] * size[1] > max_pixels and _is_streamed(header, data) else 1
    check_size(str(path), size, max_pixels * factor**2)
    flags = cv2.IMREAD_COLOR_RGB if factor == 1 else _REDUCED_RGB
    size = -(-size[0] // factor), -(-size[1] // factor)
    try:
        # cv2.imread would only warn
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        limit = "; OpenCV decodes more pixels only if OPENCV_IO_MAX_IMAGE_PIXELS is set"
        more = limit if size[0] * size[1] > MAX_PIXELS else ""
        raise UnreadableImageError(f"{path}: not an image that can be decoded{more}") from error
    if image is None or sorted(image.shape[:2]) != sorted(size):  # EXIF orientation may turn it
        raise UnreadableImageError(f"{path}: not an image that can be decoded")
    if factor > 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return Photo(np.asarray(image, dtype=np.uint8), factor)


_REDUCED_RGB = cv2.IMREAD_REDUCED_COLOR_2  # there is none of RGB


def _by_pillow(data: bytes, path: str | Path, kind: str, max_pixels: int) -> Image:
    """Decode a file of a format that Pillow reads."""
    try:
        opened = open_photo(data, kind)
        check_size(str(path), opened.size, max_pixels)
        return decode(opened, path)
    except UnreadableImageError:
        raise
    except MissingDecoderError as error:
        raise UnreadableImageError(f"{path}: not an image that can be decoded ({error})") from error
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise UnreadableImageError(f"{path}: not an image that can be decoded ({kind})") from error


def check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    """Raise UnreadableImageError if width times height is above ``max_pixels``."""
    width, height = size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: too large: {width} x {height} are {width * height / 1e6:.0f} million pixels, the limit "
            f"is {max_pixels / 1e6:.0f} million: shrink it first"
        )


def _header(data: bytes) -> PIL.Image.Image:
    """Return the opened file as ``PIL.Image.open`` does, but without its global limit."""
    for register in (PIL.Image.preinit, PIL.Image.init):  # the usual formats, then the rest
        register()
        for opener, accepts in [PIL.Image.OPEN[name] for name in SHARED_FORMATS if name in PIL.Image.OPEN]:
            accepted = accepts is None or accepts(data[:16])
            if not accepted or isinstance(accepted, str):  # a str names what is missing
                continue
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not of this format
                return opener(io.BytesIO(data), "")
    raise PIL.UnidentifiedImageError


def _is_streamed(header: PIL.Image.Image, data: bytes) -> bool:
    """Return whether a file is a JPEG with all its colours in one scan, which is decoded row by row."""
    if header.format not in ("JPEG", "MPO") or "progressive" in header.info:
        return False
    colours = len(header.getbands())
    scan = b"\xff\xda" + struct.pack(">HB", 6 + 2 * colours, colours)  # begins the header of a scan of all
    file = getattr(header, "fp", None)  # of the classes of files
    end = file.tell() if file is not None else 0  # of the first scan's header
    return data[max(0, end - 8 - 2 * colours) : end].startswith(scan)


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
            read_reduced(path)
        except UnreadableImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers) as pool:
        return [message for message in pool.map(error_of, paths) if message is not None]
