"""Detected faces: box, landmarks and score."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Pixel coordinates (x, y), shape (n, 2); the centre of the top left pixel is (0, 0), as in OpenCV."""

LANDMARKS: tuple[str, ...] = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")
"""The five landmarks in order; left and right as seen in the image."""


def scale_pixels(places: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Return pixel coordinates in an image enlarged by a factor; those of pixels' edges are multiplied."""
    return np.asarray((places + 0.5) * factor - 0.5)


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """A face found in an image.

    Attributes:
        box: Left, top, right and bottom edge in pixels, shape (4,); parts may lie outside the image.
        landmarks: The points named by ``LANDMARKS``, shape (5, 2).
        score: Confidence of the detector, 0 to 1.
        turned: Degrees, clockwise, by which the image was turned to find the face: 0, 90, 180 or 270.
    """

    box: NDArray[np.float64]
    landmarks: Points
    score: float
    turned: int = 0

    def scaled(self, factor: float) -> "DetectedFace":
        """Return the face in an image enlarged by a factor."""
        box, landmarks = (scale_pixels(places, factor) for places in (self.box, self.landmarks))
        return replace(self, box=box, landmarks=landmarks)

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box.tolist()
        return float(max(0.0, right - left) * max(0.0, bottom - top))


def largest(faces: list[DetectedFace]) -> DetectedFace:
    """Return the face with the largest box; ties go to the higher score, then to the face further left."""
    return max(faces, key=lambda face: (face.area, face.score, -face.box[0]))
