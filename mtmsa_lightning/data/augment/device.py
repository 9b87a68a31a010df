"""Augmentation of a whole batch on its device, with one amount per face.

The parameters come with the batch, from ``AugmentationParamSampler``. Differences to the CPU are rounding
(there every step ends in 8 bits) and interpolation (there the crop is resized, then rotated).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from mtmsa_lightning.data.augment.params import AugmentationParams
from mtmsa_lightning.data.augment.presets import ERASED

Amounts = NDArray[np.float64]
"""One number per face, shape (N,)."""


def augment(images: Tensor, params: NDArray[np.float32], image_size: int) -> Tensor:
    """Crop, mirror, rotate, change the colours of and erase a rectangle of each face.

    Args:
        images: uint8 RGB, shape (N, 3, side, side).
        params: An ``AugmentationParams`` per face, shape (N, 19), on the CPU.
        image_size: Side of the output in pixels.

    Returns:
        Floating point in [0, 1], shape (N, 3, image_size, image_size).
    """
    columns = dict(zip(AugmentationParams._fields, params.T.astype(np.float64), strict=True))
    faces = resample(images, columns, image_size)
    for turn in ("first", "second", "third", "fourth"):
        for number, (name, change) in enumerate(_COLOUR_CHANGES.items()):
            _change(faces, columns[turn] == number, change, columns[name])
    _change(faces, columns["grey"] == 1, adjust_saturation, np.zeros(len(faces)))
    return erase(faces, columns) if columns["erased_width"].any() else faces


def erase(faces: Tensor, params: dict[str, Amounts]) -> Tensor:
    """Fill a rectangle of each face, shape (N, 3, size, size), with the colour ``ERASED``."""
    position = torch.arange(faces.shape[-1], device=faces.device)
    column, row = position.view(1, 1, 1, -1), position.view(1, 1, -1, 1)
    left, top, width, height = (
        _each(params[f"erased_{name}"], faces) for name in ("left", "top", "width", "height")
    )
    inside = (column >= left) & (column < left + width) & (row >= top) & (row < top + height)
    fill = _to(faces.device, np.array(ERASED, np.float32) / 255).view(1, 3, 1, 1)
    return torch.where(inside, fill, faces)


def resample(images: Tensor, params: dict[str, Amounts], size: int) -> Tensor:
    """Crop, resize, mirror and rotate faces in one step, with mirrored borders.

    An output pixel is the mean of ``taps`` x ``taps`` bilinear samples, spaced so that their variance equals
    that of OpenCV's area averaging, to avoid aliasing.

    Args:
        images: uint8, shape (N, 3, side, side).
        params: Columns of ``AugmentationParams``.
        size: Side of the output in pixels.

    Returns:
        Floating point in [0, 1], shape (N, 3, size, size).
    """
    side = images.shape[-1]
    columns, rows = _positions(params, size, images.device)
    taps = math.ceil(side / size)
    axes = []
    for position, start, length in ((columns, "left", "width"), (rows, "top", "height")):
        scale = params[length] / size
        centre = (position + 0.5) * _each(scale, position) + _each(params[start], position)
        spread = np.sqrt(np.maximum(scale**2 - 1, 0) * taps**2 / max(taps**2 - 1, 1))
        offsets = [_each(spread * ((tap + 0.5) / taps - 0.5), position) for tap in range(taps)]
        axes.append([(centre + offset) * (2 / side) - 1 for offset in offsets])
    source = images.contiguous().to(columns.dtype)
    total = torch.zeros(len(images), images.shape[1], size, size, device=images.device)
    for x in axes[0]:
        for y in axes[1]:
            grid = torch.stack([x, y], dim=-1)
            total += grid_sample(source, grid, "bilinear", padding_mode="border", align_corners=False)
    return total / (255 * taps**2)


def _positions(params: dict[str, Amounts], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the column and row of the resized crop for each output pixel, shape (N, size, size)."""
    last = size - 1
    along = torch.arange(size, device=device, dtype=torch.float32) - last / 2
    x, y = along.view(1, 1, -1), along.view(1, -1, 1)
    radians = np.deg2rad(params["degrees"])
    cos, sin = _each(np.cos(radians), x), _each(np.sin(radians), x)
    columns = _reflect(cos * x - sin * y + last / 2, last)
    rows = _reflect(sin * x + cos * y + last / 2, last)
    mirrored = _each(params["mirrored"], x)
    return mirrored * (last - columns) + (1 - mirrored) * columns, rows


def _reflect(position: Tensor, last: int) -> Tensor:
    """Reflect positions outside [0, last] at the centres of the first and last pixel."""
    return last - (last - position.abs()).abs()


def _each(amounts: Amounts, like: Tensor) -> Tensor:
    """Return one number per face, shaped to broadcast with ``like``."""
    return _to(like.device, amounts.astype(np.float32)).view(-1, *[1] * (like.ndim - 1))


def _to(device: torch.device, numbers: NDArray[Any]) -> Tensor:
    """Copy to the device without waiting for it; CUDA reads pageable memory before it returns."""
    return torch.from_numpy(numbers).to(device, non_blocking=device.type == "cuda")


def _change(
    faces: Tensor, chosen: NDArray[np.bool_], change: Callable[[Tensor, Tensor], Tensor], amounts: Amounts
) -> None:
    """Change the chosen faces in place."""
    rows = np.flatnonzero(chosen)
    if len(rows):
        index = _to(faces.device, rows)
        faces[index] = change(faces[index], _each(amounts[rows], faces))


def adjust_brightness(faces: Tensor, factors: Tensor) -> Tensor:
    """Scale faces in [0, 1], shape (N, 3, height, width), by a factor each, shape (N, 1, 1, 1)."""
    return (faces * factors).clamp(0, 1)


def adjust_contrast(faces: Tensor, factors: Tensor) -> Tensor:
    """Scale each face's distance from its mean grey level."""
    levels = (255 * luminance(faces)).round().long().flatten(1)  # the sum of integers has no rounding error
    mean = levels.sum(1).view(-1, 1, 1, 1) / (255 * levels.shape[1])
    return (faces * factors + mean * (1 - factors)).clamp(0, 1)


def adjust_saturation(faces: Tensor, factors: Tensor) -> Tensor:
    """Scale each pixel's distance from its grey level; a factor of 0 makes the face grey."""
    return (faces * factors + luminance(faces) * (1 - factors)).clamp(0, 1)


def adjust_hue(faces: Tensor, shifts: Tensor) -> Tensor:
    """Shift the hue by a fraction of the hue circle, keeping saturation and value (HSV)."""
    red, green, blue = faces.unbind(1)
    value = faces.amax(1)
    chroma = value - faces.amin(1)
    divisor = torch.where(chroma > 0, chroma, 1)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = hue + 6 * shifts.flatten(1).unsqueeze(2)
    channels = []
    for offset in (5, 3, 1):
        sixth = (hue + offset).remainder(6)
        channels.append(value - chroma * torch.minimum(sixth, 4 - sixth).clamp(0, 1))
    return torch.stack(channels, 1)


def luminance(faces: Tensor) -> Tensor:
    """Return the grey level of RGB faces (ITU-R BT.601), shape (N, 1, height, width)."""
    red, green, blue = faces.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


_COLOUR_CHANGES = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}  # in the numbering of AugmentationParams.first
