"""Detected faces: box, landmarks and score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Pixel coordinates (x, y), shape (n, 2); the centre of the top left pixel is (0, 0), as in OpenCV."""

LANDMARKS: tuple[str, ...] = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")
"""The five landmarks in order; left and right as seen in the image."""


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """A face found in an image.

    Attributes:
        box: Left, top, right and bottom edge in pixels, shape (4,); parts may lie outside the image.
        landmarks: The points named by ``LANDMARKS``, shape (5, 2).
        score: Confidence of the detector, 0 to 1.
    """

    box: NDArray[np.float64]
    landmarks: Points
    score: float

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box.tolist()
        return float(max(0.0, right - left) * max(0.0, bottom - top))


def largest(faces: list[DetectedFace]) -> DetectedFace:
    """Return the face with the largest box; ties go to the higher score, then to the face further left."""
    return max(faces, key=lambda face: (face.area, face.score, -face.box[0]))
