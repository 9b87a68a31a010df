"""Photos of any form to RGB arrays, their size looked at before they are decoded."""

import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning.data.images import Image, UnreadableImageError, decode_image, read_image

PhotoInput = str | Path | bytes | NDArray[Any] | Tensor | PIL.Image.Image
"""A photo: an image file, the bytes of one, an array ``(height, width)`` or ``(height, width, channels)``, a
tensor of channels first, or a Pillow image. Arrays and tensors are grey or RGB (not OpenCV's BGR): uint8,
uint16, or floating point in [0, 1]; an alpha channel is dropped."""

MAX_PIXELS = 64_000_000
"""Pixels of the largest photo that is decoded: more than cameras of full format make, and 192 MB as RGB."""


def read_photo(photo: PhotoInput, max_pixels: int = MAX_PIXELS, name: str = "photo") -> Image:
    """Return a photo as it is seen: RGB, upright by its EXIF orientation.

    Files are decoded as for training.

    Args:
        photo: See ``PhotoInput``.
        max_pixels: Pixels above which a photo is refused, by its header, before it is decoded: a file of a
            few kilobytes can unpack to gigabytes.
        name: Names the content of a file in messages.

    Returns:
        RGB, uint8, shape (height, width, 3).

    Raises:
        UnreadableImageError: It is no image, cannot be decoded, or is too large; or the array or tensor has
            another shape, type or range.
        TypeError: It is none of these things.
    """
    if isinstance(photo, str | Path):
        check_pixels(photo, max_pixels)
        return read_image(photo)
    if isinstance(photo, bytes):
        _check_header(io.BytesIO(photo), name, max_pixels)
        return decode_image(np.frombuffer(photo, np.uint8), name)
    if isinstance(photo, PIL.Image.Image):
        return _from_pillow(photo, max_pixels)
    if isinstance(photo, Tensor):
        array = photo.detach().cpu().numpy()
        return _from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    raise TypeError(f"a photo is a path, bytes, array, tensor or Pillow image, not {type(photo).__name__}")


def check_pixels(path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image file with too many pixels, by its header alone.

    Raises:
        UnreadableImageError: It has too many, or no header of an image is found.
    """
    try:
        with Path(path).open("rb") as stream:
            _check_header(stream, str(path), max_pixels)
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_header(stream: BinaryIO, name: str, max_pixels: int) -> None:
    try:
        size = _size_by_header(stream, name)
    except OSError as error:
        why = error.strerror or "no image that can be decoded"
        raise UnreadableImageError(f"{name}: cannot be read ({why})") from error
    except Exception as error:  # a damaged header makes Pillow raise nearly anything
        raise UnreadableImageError(f"{name}: not an image that can be decoded ({error})") from error
    _refuse_large(name, size, max_pixels)


def _size_by_header(stream: BinaryIO, name: str) -> tuple[int, int]:
    """Return width and height, as ``PIL.Image.open`` finds them.

    That function compares them with a limit of its own, at which it warns; it can only be changed for all of
    a program, and here another one counts.
    """
    start = stream.read(16)
    for register in (PIL.Image.preinit, PIL.Image.init):  # the usual formats, then all
        register()
        for opener, accepts in tuple(PIL.Image.OPEN.values()):  # another thread may register more
            accepted = accepts is None or accepts(start)
            if not accepted or isinstance(accepted, str):  # a text says what is missing
                continue
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not of this format
                return opener(stream, name).size
    raise PIL.UnidentifiedImageError


def _refuse_large(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: too large: {width} x {height} are {width * height / 1e6:.0f} million pixels, the limit "
            f"is {max_pixels / 1e6:.0f} million (max_pixels): shrink it first"
        )


def _from_pillow(image: PIL.Image.Image, max_pixels: int) -> Image:
    name = getattr(image, "filename", "") or "Pillow image"
    _refuse_large(name, image.size, max_pixels)
    try:
        upright = PIL.ImageOps.exif_transpose(image)
        deep = upright.mode.startswith("I")  # 16 bits, which Pillow would cut off at 255
        array = np.asarray(upright if deep else upright.convert("RGB"))
    except Exception as error:  # opened lazily: only now it may turn out damaged
        raise UnreadableImageError(f"{name}: not an image that can be decoded ({error})") from error
    return _from_array(array.clip(0, 65535).astype(np.uint16) if deep else array)


def _from_array(array: NDArray[Any]) -> Image:
    """Return an array as RGB uint8; 16 bits lose their lower half, as in files."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4) or 0 in array.shape:
        raise UnreadableImageError(
            f"shape {array.shape} is no photo: an array is (height, width) or (height, width, channels), a "
            "tensor (channels, height, width), with 1 to 4 channels"
        )
    array = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]  # without alpha
    return np.ascontiguousarray(np.broadcast_to(_eight_bits(array), (*array.shape[:2], 3)))


def _eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise UnreadableImageError(f"type {array.dtype} is no photo: give uint8, uint16 or floats in [0, 1]")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        raise UnreadableImageError(
            f"floats from {array.min():g} to {array.max():g} are no photo: they must lie in [0, 1]"
        )
    return np.asarray(np.rint(array * 255), np.uint8)
