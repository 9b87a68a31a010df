"""Image files to arrays: every format that a face release contains, decoded the same way."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning.errors import DataError

Image = NDArray[np.uint8]
"""An RGB image, uint8, shape (height, width, 3)."""


class UnreadableImageError(DataError):
    """A file that is missing, empty, truncated beyond decoding, or no image."""


def read_image(path: str | Path) -> Image:
    """Decode an image file to RGB.

    EXIF orientation is applied (OpenCV 4.11 ignores it in WebP); greyscale, palette, CMYK, alpha and 16-bit
    files become 8-bit RGB. OpenCV is used because it was the fastest of the three decoders at hand, if not
    by much (``benchmarks/decode.md``).

    Args:
        path: The image file.

    Returns:
        The image, uint8, shape (height, width, 3).

    Raises:
        UnreadableImageError: If there is no decodable image at ``path``.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error})") from error
    return decode_image(data, path)


def decode_image(data: NDArray[np.uint8], path: str | Path) -> Image:
    """Decode the bytes of an image file to RGB; see :func:`read_image`.

    Args:
        data: The bytes, shape (length,).
        path: Names the image in the message.

    Raises:
        UnreadableImageError: If the bytes are no decodable image.
    """
    try:
        # cv2.imread would only warn, and not at all on every platform
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except cv2.error as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error})") from error
    if image is None:
        raise UnreadableImageError(f"{path}: not an image that can be decoded")
    return np.asarray(image, dtype=np.uint8)


def central_square(image: Image, fraction: float) -> Image:
    """Cut the central square whose side is ``fraction`` (above 0, at most 1) of the shorter side."""
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * fraction))
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def unreadable(paths: Iterable[str | Path], workers: int = 8) -> list[str]:
    """Decode every file and return the messages of those that cannot be read, in input order."""

    def fault(path: str | Path) -> str | None:
        try:
            read_image(path)
        except UnreadableImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers) as pool:
        return [message for message in pool.map(fault, paths) if message is not None]
