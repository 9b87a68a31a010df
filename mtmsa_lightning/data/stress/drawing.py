"""Beard, wrinkles and glasses, drawn on canonical crops.

Positions are those of the five landmarks in the crop (``align/canonical.py``), in units of the distance
between the eyes. The drawings are crude on purpose: they need no assets, and ask whether a few dark pixels at
the right place move the estimated age.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.canonical import canonical_landmarks

Floats = NDArray[np.float64]

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws."""


class Face:
    """Coordinates of a canonical crop: origin between the eyes, their distance as unit, y downwards."""

    def __init__(self, size: int, margin: float) -> None:
        left, right, _, mouth_left, mouth_right = canonical_landmarks(size, margin)
        self.origin = (left + right) / 2
        self.unit = float(np.linalg.norm(right - left))
        self.mouth = float((mouth_left + mouth_right)[1] / 2 - self.origin[1]) / self.unit

    def pixels(self, points: Floats) -> NDArray[np.int32]:
        """Return points ``(n, 2)`` in OpenCV's fixed point pixels."""
        return np.asarray(np.round((self.origin + points * self.unit) * 2**_SHIFT), np.int32)

    def curve(self, image: Image, points: Floats, colour: float, width: float) -> None:
        """Draw a line of a width in units of the face through points."""
        thickness = max(1, round(width * self.unit))
        lines = [self.pixels(points).reshape(-1, 1, 2)]
        cv2.polylines(image, lines, False, (colour,) * image.shape[2], thickness, cv2.LINE_AA, _SHIFT)


def beard(image: Image, margin: float, density: float, random: np.random.Generator) -> Image:
    """Draw short dark hairs around the mouth and on the chin, on the fraction ``density`` of the skin."""
    size = image.shape[0]
    face = Face(size, margin)
    y, x = (np.indices((size, size)) - face.origin[::-1, None, None]) / face.unit
    jaw = (x / 0.95) ** 2 + ((y - 0.7) / 1.05) ** 2 < 1
    mouth = (x / 0.42) ** 2 + ((y - face.mouth) / 0.15) ** 2 < 1
    skin = jaw & (y > face.mouth - 0.22) & ~mouth
    hairs = np.zeros((size, size), np.float32)
    rows, columns = np.nonzero(skin)
    length = max(1.0, 0.05 * face.unit)
    wanted, most = density * len(rows), 60 * size
    for _ in range(most):
        if hairs.sum() >= wanted or not len(rows):
            break
        at = random.integers(len(rows), size=64)
        ends = np.stack([columns[at], rows[at]], 1) + length * random.normal([0, 1], 0.35, (64, 2))
        starts = np.stack([columns[at], rows[at]], 1)
        lines = np.round(np.stack([starts, ends], 1) * 2**_SHIFT).astype(np.int32)
        cv2.polylines(hairs, [*lines.reshape(64, 2, 1, 2)], False, 1.0, 1, cv2.LINE_AA, _SHIFT)
    soft = np.asarray(cv2.GaussianBlur(hairs, (0, 0), 0.4 + 0.004 * size)) * skin
    return _darkened(image, soft, 0.25)


def wrinkles(image: Image, margin: float, depth: float, random: np.random.Generator) -> Image:
    """Draw folds from nose to mouth, crow's feet, lines of the forehead and below the eyes.

    ``depth`` is the fraction of brightness that they take.
    """
    face, size = Face(image.shape[0], margin), image.shape[0]
    lines = np.zeros((size, size, 1), np.uint8)
    t = np.linspace(0, 1, 12)[:, None]
    curves = []
    for side in (-1, 1):
        fold = np.array([0.3 * side, 0.45]), np.array([0.62 * side, face.mouth + 0.08])
        curves.append(fold[0] + (fold[1] - fold[0]) * t + np.array([0.07 * side, 0]) * np.sin(np.pi * t))
        for angle in (-0.5, 0.0, 0.5):  # crow's feet
            start = np.array([0.82 * side, 0.03 + 0.1 * angle])
            curves.append(start + np.array([0.24 * side, 0.24 * angle]) * t)
        below = np.array([0.5 * side, 0.2]) + np.array([0.27, 0.06]) * np.column_stack(
            [2 * t - 1, np.sin(np.pi * t)]
        )
        curves.append(below)
    for height in (-0.62, -0.75, -0.88):
        curves.append(np.column_stack([1.0 * (t - 0.5), height - 0.05 * np.sin(np.pi * t)]))
    for curve in curves:
        wobble = 0.012 * random.normal(size=curve.shape).cumsum(0) / 3
        face.curve(lines, curve + wobble, 255, 0.035)
    soft = cv2.GaussianBlur(lines, (0, 0), 0.3 + 0.005 * size).astype(np.float32) / 255
    return _darkened(image, soft, 1 - depth)


def glasses(image: Image, margin: float, opacity: float, random: np.random.Generator) -> Image:
    """Draw a dark frame and lenses of an opacity; at 0 they are clear."""
    face = Face(image.shape[0], margin)
    drawn = image.copy()
    width, height = 0.4 * random.uniform(0.92, 1.08), 0.29 * random.uniform(0.9, 1.1)
    angle = np.linspace(0, 2 * np.pi, 60)
    corners = 0.6  # of a superellipse: between a rectangle and an ellipse
    rim = np.column_stack([
        np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** corners,
        np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** corners,
    ])  # fmt: skip
    for side in (-0.5, 0.5):
        lens = np.array([side, 0.06]) + rim * [width, height]
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [face.pixels(lens)], 255, cv2.LINE_AA, _SHIFT)
        drawn = _darkened(drawn, mask.astype(np.float32) / 255, 1 - opacity)
        face.curve(drawn, lens, 25, 0.05)
    bridge = np.array([[-0.5 + width, -0.02], [0.0, -0.07], [0.5 - width, -0.02]])
    face.curve(drawn, bridge, 25, 0.05)
    for side in (-1, 1):
        temple = np.array([[side * (0.5 + width), 0.0], [side * 1.3, -0.04]])
        face.curve(drawn, temple, 25, 0.04)
    return drawn


def _darkened(image: Image, mask: NDArray[np.floating[Any]], factor: float) -> Image:
    """Multiply brightness by ``factor`` where a mask of 0 to 1, ``(height, width)``, is 1."""
    weight = np.clip(mask.reshape(*image.shape[:2], 1), 0, 1) * (1 - factor)
    return np.asarray(np.round(image * (1 - weight)), np.uint8)
