"""Curves and masks on the canvas of a synthetic face."""

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 200
"""Side in pixels at which faces are drawn."""

Canvas = NDArray[np.float32]
Points = NDArray[np.float64]
Box = tuple[slice, slice]

EVERYWHERE: Box = (slice(0, CANVAS), slice(0, CANVAS))


def region_mask(points: Points, margin: float) -> tuple[NDArray[np.uint8], Box]:
    """Return an empty mask for the surroundings of points, and where on the canvas it lies."""
    low = np.clip(np.floor(points.min(0) - margin), 0, CANVAS).astype(int)
    high = np.clip(np.ceil(points.max(0) + margin) + 1, 0, CANVAS).astype(int)
    box = (slice(low[1], max(high[1], low[1])), slice(low[0], max(high[0], low[0])))
    return np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.uint8), box


def line_mask(points: Points, width: int, margin: float, shade: int = 255) -> tuple[NDArray[np.uint8], Box]:
    """Return the mask of a line, and where on the canvas it lies."""
    mask, box = region_mask(points, margin)
    cv2.polylines(mask, [fixed_point(points - top_left(box))], False, shade, width, cv2.LINE_AA, shift=4)
    return mask, box


def top_left(box: Box) -> Points:
    """Return the corner (x, y) of a box."""
    return np.array([box[1].start, box[0].start], np.float64)


def fixed_point(points: Points) -> NDArray[np.int32]:
    """Return points in sixteenths of a pixel, for OpenCV's ``shift=4``."""
    return np.round(np.asarray(points) * 16).astype(np.int32)


def arc(
    x: float, y: float, half_width: float, half_height: float, start: float = 0, end: float = 360
) -> Points:
    """Return an elliptic arc, in degrees clockwise from the right."""
    angle = np.deg2rad(np.linspace(start, end, 33))
    return np.stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)], 1)


def smooth(points: Points) -> Points:
    """Return a smoothed curve through points."""
    steps = np.linspace(0, len(points) - 1, 4 * len(points))
    whole = np.arange(len(points))
    curve = np.stack([np.interp(steps, whole, points[:, axis]) for axis in (0, 1)], 1)
    padded = np.concatenate([curve[:1], curve, curve[-1:]])
    return np.asarray((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)
