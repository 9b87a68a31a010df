"""What a face detector is to this package: a callable from an image to faces with five landmarks."""

from typing import Protocol

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.faces import DetectedFace


class FaceDetector(Protocol):
    """Finds the faces of an RGB image, in any order; ``identity`` says exactly which detector it is.

    Another detector is put in by writing a class of this form and naming it in ``load_detector``.
    """

    identity: dict[str, str | float]

    def __call__(self, image: Image) -> list[DetectedFace]:
        """Return the faces of an image, none if there are none."""


def load_detector() -> FaceDetector:
    """Return the detector of the extra ``align``.

    Raises:
        ConfigError: The extra is not installed, or something else stands in its place.
    """
    from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace

    return TinyRetinaFace()
