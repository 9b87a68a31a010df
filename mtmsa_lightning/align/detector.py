"""The interface of face detectors, and the default detector."""

from typing import Protocol

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.align.search import PhotoSearch
from mtmsa_lightning.settings.defaults import SMALLEST_FACE


class FaceDetector(Protocol):
    """Finds the faces of an RGB image, in any order.

    To use another detector write a class with the interface
    :class:`~mtmsa_lightning.align.search.Detector`,
    and pass it to :class:`~mtmsa_lightning.align.search.PhotoSearch` in :func:`load_detector`.

    Attributes:
        identity: Name, version and settings of the detector, recorded in prepared sets.
    """

    identity: dict[str, str | float]

    def __call__(self, image: Image) -> list[DetectedFace]:
        """Return the faces of an image; an empty list if there are none."""


def load_detector(
    smallest_face: int = SMALLEST_FACE, orientation: str = "auto", crowds: bool = True
) -> PhotoSearch:
    """Return the detector of the extra ``align``.

    Args:
        smallest_face: See :class:`~mtmsa_lightning.align.search.PhotoSearch`.
        orientation: One of ``ORIENTATIONS``.
        crowds: Search for smaller faces even if some are found.

    Raises:
        ConfigError: The extra is not installed, or another package has its import name.
    """
    from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace

    return PhotoSearch(TinyRetinaFace(), smallest_face, orientation == "auto", crowds)
