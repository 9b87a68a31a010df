"""Convert photos of any form to RGB arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning._utils.images import (
    MAX_PIXELS,
    Image,
    Photo,
    UnreadableImageError,
    check_size,
    decode_reduced,
    read_reduced,
)

PhotoInput = str | Path | bytes | NDArray[Any] | Tensor | PIL.Image.Image
"""A photo: an image file, the bytes of one, an array ``(height, width)`` or ``(height, width, channels)``, a
tensor of channels first, or a Pillow image. Arrays and tensors are grey or RGB (not OpenCV's BGR): uint8,
uint16, or floating point in [0, 1]; an alpha channel is dropped."""


def read_photo(photo: PhotoInput, max_pixels: int = MAX_PIXELS, name: str = "photo") -> Image:
    """Return a photo as an RGB array, uint8, (height, width, 3), with its EXIF orientation applied.

    Args:
        photo: See ``PhotoInput``; files are decoded as in training.
        max_pixels: Larger photos are refused before they are decoded; JPEG files of up to 4 times as many are
            decoded at half their sides.
        name: Name of a photo given as bytes, for messages.

    Raises:
        UnreadableImageError: It is not an image, cannot be decoded, or is too large; or the array or tensor
            has another shape, type or range.
        TypeError: It has another type.
    """
    return load_photo(photo, max_pixels, name).image


def load_photo(photo: PhotoInput, max_pixels: int = MAX_PIXELS, name: str = "photo") -> Photo:
    """Return a photo as :func:`read_photo`, with the factor by which a large one is reduced."""
    if isinstance(photo, str | Path):
        return read_reduced(photo, max_pixels)
    if isinstance(photo, bytes):
        return decode_reduced(photo, name, max_pixels)
    if isinstance(photo, PIL.Image.Image):
        return Photo(_from_pillow(photo, max_pixels))
    if isinstance(photo, Tensor):
        array = photo.detach().cpu().numpy()
        return Photo(_from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array))
    if isinstance(photo, np.ndarray):
        return Photo(_from_array(photo))
    raise TypeError(f"a photo is a path, bytes, array, tensor or Pillow image, not {type(photo).__name__}")


def _from_pillow(image: PIL.Image.Image, max_pixels: int) -> Image:
    name = getattr(image, "filename", "") or "Pillow image"
    check_size(name, image.size, max_pixels)
    try:
        upright = PIL.ImageOps.exif_transpose(image)
        deep = upright.mode.startswith("I")  # 16 bits, which Pillow would clip at 255
        array = np.asarray(upright if deep else upright.convert("RGB"))
    except Exception as error:  # Pillow reads the pixels lazily
        raise UnreadableImageError(f"{name}: not an image that can be decoded ({error})") from error
    return _from_array(array.clip(0, 65535).astype(np.uint16) if deep else array)


def _from_array(array: NDArray[Any]) -> Image:
    """Return an array as RGB uint8; 16 bits are reduced to the upper 8, as in files."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4) or 0 in array.shape:
        raise UnreadableImageError(
            f"shape {array.shape} is not a photo: an array is (height, width) or (height, width, channels), "
            "a tensor (channels, height, width), with 1 to 4 channels"
        )
    array = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]  # without alpha
    return np.ascontiguousarray(np.broadcast_to(_eight_bits(array), (*array.shape[:2], 3)))


def _eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise UnreadableImageError(
            f"type {array.dtype} is not a photo: give uint8, uint16 or floats in [0, 1]"
        )
    if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        raise UnreadableImageError(
            f"floats from {array.min():g} to {array.max():g} are not a photo: they must be in [0, 1]"
        )
    return np.asarray(np.rint(array * 255), np.uint8)
