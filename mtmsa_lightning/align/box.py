"""Face boxes of a release: columns of a face table, and the crop of an image to its box."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.canonical import warp

if TYPE_CHECKING:  # aligning faces loads no table
    import pandas as pd

BOX: tuple[str, ...] = ("face_left", "face_top", "face_right", "face_bottom", "face_angle")
"""Columns of a face table with the face's box in its image.

Edges in pixels, 0 at the left and top edge of the image; parts may lie outside. The box is turned clockwise
around its centre by ``face_angle`` degrees, and includes a margin that the reader added. Only tables of raw
images have these columns.
"""

Box = tuple[float, ...]
"""The values of ``BOX``."""

_LARGEST = 2  # times the longer side of the image: bounds the memory that a wrong box takes


def crop_box(image: Image, box: Box, margin: float = 0.0, factor: int = 1) -> Image:
    """Return the square around a box; the pixels of the image's edge are repeated outside the image.

    Args:
        image: RGB image.
        box: The values of ``BOX``. The square has the box's centre and its longer side.
        margin: Margin to add on each side, as a fraction of the longer side.
        factor: Factor by which the image was reduced when it was decoded.
    """
    left, top, right, bottom, angle = *(edge / factor for edge in box[:4]), box[4]
    side = max(right - left, bottom - top) * (1 + 2 * margin)
    size = int(np.clip(round(side), 1, _LARGEST * max(image.shape[:2])))
    centre = ((left + right - 1) / 2, (top + bottom - 1) / 2)  # of pixels, whose centres are whole numbers
    transform = np.asarray(cv2.getRotationMatrix2D(centre, angle, size / side), np.float64)
    transform[:, 2] += (size - 1) / 2 - np.array(centre, np.float64)
    return warp(image, transform, size)


def box_rows(faces: "pd.DataFrame") -> list[Box | None]:
    """Return the box of every row of a table; None for an image without a box, which is used whole."""
    if not set(BOX) <= set(faces):
        return [None] * len(faces)
    rows = faces[[*BOX]].to_numpy(np.float64)
    known = np.isfinite(rows).all(axis=1)
    return [tuple(row) if has else None for row, has in zip(rows.tolist(), known, strict=True)]


def turned_boxes(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of ``BOX`` for rectangles given by their corners.

    Args:
        corners: x and y of the left top, right top, right bottom and left bottom corner, shape (N, 8).

    Returns:
        Shape (N, 5).
    """
    points = corners.reshape(-1, 4, 2)
    top, left = points[:, 1] - points[:, 0], points[:, 3] - points[:, 0]
    half = np.column_stack([np.hypot(*top.T), np.hypot(*left.T)]) / 2
    centre = points.mean(axis=1)
    return np.column_stack([centre - half, centre + half, np.degrees(np.arctan2(top[:, 1], top[:, 0]))])
