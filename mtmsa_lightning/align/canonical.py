"""Alignment of a face: a similarity transform from five landmarks to a canonical square crop.

The canonical landmarks are those of ArcFace's template (Deng et al., CVPR 2019; the five points published
with InsightFace), but in a larger square: the template's own square cuts off chins, which show age. The
square of margin 0 reaches from the forehead to the chin. A margin m adds m times its side on each side, so
that it fills 1 / (1 + 2 m) of the crop's side.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.detected_face import Points

Transform = NDArray[np.float64]
"""Matrix of shape (2, 3) that maps source pixels (x, y, 1) to crop pixels (x, y)."""

TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace's landmarks in pixels of its 112 x 112 template, in the order of ``LANDMARKS``."""

CENTRE, SIDE = (56.0, 72.0), 96.0
"""Centre and side of the square of margin 0, in pixels of the template.

Chosen by UTKFace's images: their median landmarks map the whole image to a side of 96.0 around (56.7, 72.5).
"""


def canonical_fractions(margin: float) -> Points:
    """Return the five landmarks in a crop, as fractions of its side from its left and top edges."""
    return np.asarray((TEMPLATE - CENTRE) / SIDE / (1 + 2 * margin) + 0.5)


def canonical_landmarks(size: int, margin: float) -> Points:
    """Return the five landmarks in a crop with sides of ``size`` pixels, shape (5, 2)."""
    return to_pixels(canonical_fractions(margin), (0.0, 0.0), size)


def to_pixels(fractions: Points, corner: tuple[float, float], side: float) -> Points:
    """Convert points from fractions of a square to pixels, whose centres are whole numbers."""
    return np.asarray(np.asarray(corner) + fractions * side - 0.5)


def similarity_transform(source: Points, target: Points) -> Transform:
    """Return the least-squares similarity transform (rotation, scale, shift) between points, shape (n, 2).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13(4),
    1991, equations 38 to 43, without reflections.

    Raises:
        ValueError: All source points are equal.
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


def central_square(height: int, width: int) -> tuple[tuple[float, float], int]:
    """Return the top left corner and the side of the largest centred square of an image."""
    side = min(height, width)
    return ((width - side) / 2, (height - side) / 2), side


def central_transform(height: int, width: int, size: int) -> Transform:
    """Return the transform from the largest centred square of an image to the whole crop."""
    (left, top), side = central_square(height, width)
    scale = size / side
    x, y = ((0.5 - edge) * scale - 0.5 for edge in (left, top))
    return np.array([[scale, 0.0, x], [0.0, scale, y]])


def from_enlarged(transform: Transform, factor: float) -> Transform:
    """Return a transform for an image that is ``factor`` times as large as that of the given transform."""
    shift = (1 - factor) / (2 * factor)
    return np.asarray(transform @ [[1 / factor, 0.0, shift], [0.0, 1 / factor, shift], [0.0, 0.0, 1.0]])


def warp(image: Image, transform: Transform, size: int) -> Image:
    """Warp an RGB image to a square crop with sides of ``size`` pixels, with its edge pixels as border.

    If the transform shrinks, the image is first resized to the crop's scale by area averaging to avoid
    aliasing. Then it is interpolated linearly.
    """
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    if scale < 1:
        height, width = image.shape[:2]
        small = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        x, y = width / small[0], height / small[1]
        # from the pixels of the resized image to those of the original
        transform = transform @ [[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]]
    border = cv2.BORDER_REPLICATE
    crop = cv2.warpAffine(image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(crop, np.uint8)
