"""Crop the faces of a photo as in the training of a network."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtmsa_lightning._utils.images import Image, decode_image
from mtmsa_lightning.align.canonical import (
    Transform,
    canonical_landmarks,
    similarity_transform,
    to_pixels,
    warp,
)
from mtmsa_lightning.align.crop import ALIGNED
from mtmsa_lightning.align.crop_files import encode_crop
from mtmsa_lightning.align.detected_face import DetectedFace, Points
from mtmsa_lightning.align.detector import FaceDetector
from mtmsa_lightning.align.margin import CROP_MARGIN
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.prepared.format import ALREADY_ALIGNED
from mtmsa_lightning.data.preprocessing_check import describe_crop
from mtmsa_lightning.inference.face import FaceCrop
from mtmsa_lightning.labels import SYNTHETIC
from mtmsa_lightning.settings.defaults import CROP_SIZE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of faces for a network.

    Attributes:
        image_size: Side of the network's input in pixels.
        crop: Side of the central square that is used, as a fraction of the image's shorter side.
        margin: Margin of its canonical crops (``mtmsa prepare --margin``); None if faces were not aligned.
        size: Side of these crops in pixels.
        dataset: The dataset that it was trained on; "" if unknown.
        boxed: Whether its images were cropped to the face boxes of a table.
    """

    image_size: int
    crop: float = 1.0
    margin: float | None = None
    size: int = CROP_SIZE
    dataset: str = ""
    boxed: bool = False

    @classmethod
    def of_checkpoint(
        cls, image_size: int, crop: float, provenance: dict[str, Any] | None
    ) -> "Preprocessing":
        """Return the preprocessing recorded in a checkpoint."""
        provenance = provenance or {}
        made = (provenance.get("preparation") or {}).get("crop") or {}
        detector = made.get("detector")
        aligned = isinstance(detector, dict) or detector == ALREADY_ALIGNED
        margin = float(made["margin"]) if aligned else None
        # synthetic faces are placed as in the release
        layout = provenance.get("dataset", "").removeprefix(f"{SYNTHETIC}-")
        return cls(image_size, crop, margin, int(made.get("size", CROP_SIZE)), layout, "boxes" in made)

    @property
    def detects(self) -> bool:
        """Whether faces are detected in a photo by default."""
        return self.margin is not None

    def describe(self, detect: bool | None = None) -> str:
        """Describe the preprocessing of a photo; ``detect`` is as in training by default."""
        if not (self.detects if detect is None else detect):
            used = describe_crop(self.crop, None)
            note = ", unlike in training" if self.detects or self.boxed else ", as in training"
            return f"a photo is used as one cropped face{note} ({used})"
        if self.margin is None:
            if self.dataset in ALIGNED:
                return f"faces are detected and aligned as in the images of {self.dataset}"
            return "faces are detected and aligned, unlike in training: expect larger errors"
        return f"faces are detected and aligned with a margin of {self.margin:g}, as in training"


class Cropper:
    """Crop the faces of photos."""

    def __init__(self, how: Preprocessing) -> None:
        self.how = how
        self.transform = FaceTransform(how.image_size, how.crop)
        self.target, self.fraction = _target(how)

    def whole(self, photo: Image) -> FaceCrop:
        """Return a photo as one face, cropped as in training."""
        transform, box = _central(photo.shape[0], photo.shape[1], self.how.crop, self.how.image_size)
        return FaceCrop(self.transform(photo), transform, box)

    def detected(self, photo: Image, detector: FaceDetector) -> list[FaceCrop]:
        """Detect and align all faces of a photo, the largest first."""
        faces = sorted(detector(photo), key=lambda face: (-face.area, -face.score, face.box[0]))
        return [self._aligned(photo, face) for face in faces]

    def _aligned(self, photo: Image, face: DetectedFace) -> FaceCrop:
        size = self.how.size
        to_crop = similarity_transform(face.landmarks, self.target)
        data = encode_crop(warp(photo, to_crop, size))  # training faces were JPEG files
        crop = decode_image(data, "crop")
        to_input, _ = _central(size, size, self.fraction, self.how.image_size)
        image = FaceTransform(self.how.image_size, self.fraction)(crop)
        left, top, right, bottom = face.box.tolist()
        transform = to_input @ np.vstack([to_crop, [0, 0, 1]])
        return FaceCrop(image, transform, (left, top, right, bottom), face.landmarks, face.score, face.turned)


def _target(how: Preprocessing) -> tuple[Points, float]:
    """Return the positions of landmarks in a crop, and the fraction of the crop that is used."""
    if how.margin is not None:
        return canonical_landmarks(how.size, how.margin), how.crop
    if how.dataset in ALIGNED:  # the release's own position of a face
        return to_pixels(ALIGNED[how.dataset], (0.0, 0.0), how.size), how.crop
    return canonical_landmarks(how.size, CROP_MARGIN), 1.0


def _central(
    height: int, width: int, fraction: float, size: int
) -> tuple[Transform, tuple[float, float, float, float]]:
    """Return the transform and the box of ``FaceTransform``: the central square, resized."""
    side = max(1, round(min(height, width) * fraction))
    left, top = (width - side) // 2, (height - side) // 2
    scale = size / side
    shifts = [(0.5 - edge) * scale - 0.5 for edge in (left, top)]
    transform = np.array([[scale, 0.0, shifts[0]], [0.0, scale, shifts[1]]])
    return transform, (left - 0.5, top - 0.5, left + side - 0.5, top + side - 0.5)
