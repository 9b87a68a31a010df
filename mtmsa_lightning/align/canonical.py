"""The canonical position of a face: five landmarks, one similarity transform, one square.

The canonical landmarks are those of ArcFace's 112 x 112 template (Deng et al., CVPR 2019; the five points
published with InsightFace), here as fractions of that square. A margin widens the square on each side by a
fraction of the template's side, so that hair, ears and chin come in: with margin m the template's square
fills 1 / (1 + 2 m) of the crop's side.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning.align.detector import Points
from mtmsa_lightning.data.images import Image

Transform = NDArray[np.float64]
"""Matrix of shape (2, 3) that takes source pixels (x, y, 1) to crop pixels (x, y)."""

TEMPLATE_SIDE = 112
TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace's template in pixels of its 112 x 112 square, in the order of ``LANDMARKS``."""


def canonical_landmarks(size: int, margin: float) -> Points:
    """Return where the five landmarks lie in a crop, in pixels, shape (5, 2).

    Args:
        size: Side of the crop in pixels.
        margin: What is added on each side, as a fraction of the template's side; may not be below -0.25.
    """
    fraction = ((TEMPLATE + 0.5) / TEMPLATE_SIDE + margin) / (1 + 2 * margin)
    points: Points = fraction * size - 0.5
    return points


def similarity_transform(source: Points, target: Points) -> Transform:
    """Return the rotation, scale and shift that bring points closest to others.

    Least squares over all similarities without reflection: Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns", PAMI 13(4), 1991, equations 38 to 43.

    Args:
        source: Points, shape (n, 2).
        target: Where they should go, shape (n, 2).

    Raises:
        ValueError: All points of the source are equal.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    variance = (centred**2).sum() / len(source)
    if not variance > 0:
        raise ValueError("no similarity can be estimated: all landmarks lie on one point")
    u, singular, vt = np.linalg.svd((target - target_mean).T @ centred / len(source))
    sign = np.array([1.0, -1.0 if np.linalg.det(u) * np.linalg.det(vt) < 0 else 1.0])
    linear = (u * sign) @ vt * (singular * sign).sum() / variance
    return np.column_stack([linear, target_mean - linear @ source_mean])


def central_square_transform(height: int, width: int, size: int) -> Transform:
    """Return the transform of the central square over the whole shorter side, for a face that was not found."""
    side = min(height, width)
    return square_transform(((width - side) / 2, (height - side) / 2), side, size)


def square_transform(corner: tuple[float, float], side: float, size: int) -> Transform:
    """Return the transform that brings an upright square to the whole crop.

    Args:
        corner: Distance of the square's left and top edge from those of the image, in pixels.
        side: Side of the square in pixels.
        size: Side of the crop in pixels.
    """
    scale = size / side
    shift = [(0.5 - distance) * scale - 0.5 for distance in corner]  # pixel centres lie at whole numbers
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def warp(image: Image, transform: Transform, size: int) -> Image:
    """Cut a square crop out of an image.

    The image is shrunk first where the transform shrinks it by more than two, so that nothing aliases; then
    it is interpolated linearly. What lies outside the image repeats the pixels of its edge.

    Args:
        image: RGB image.
        transform: From its pixels to those of the crop.
        size: Side of the crop in pixels.
    """
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    factor = int(0.5 / scale) + 1 if scale < 0.5 else 1
    if factor > 1:
        height, width = image.shape[:2]
        small = max(1, round(width / factor)), max(1, round(height / factor))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        transform = transform @ _enlarging(np.array([width, height]) / small)
    border = cv2.BORDER_REPLICATE
    crop = cv2.warpAffine(image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(crop, np.uint8)


def _enlarging(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix from the pixels of a shrunk image to those of the original."""
    shift = (factors - 1) / 2
    return np.array([[factors[0], 0.0, shift[0]], [0.0, factors[1], shift[1]], [0.0, 0.0, 1.0]])
