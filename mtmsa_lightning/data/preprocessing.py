"""How faces reach the network, as recorded in training and as they are now."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.data.prepared.format import preparation

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule

log = logging.getLogger(__name__)


def describe_crop(crop: float, preparation: dict[str, Any] | None) -> str:
    """Say which part of an image is used.

    Args:
        crop: Side of the central square, as a fraction of the shorter side.
        preparation: How a prepared set was made, as provenance records it; None for raw photos.
    """
    used = "central square" + (f" of {100 * crop:.0f} % of the shorter side" if crop != 1 else "")
    prepared = (preparation or {}).get("crop")
    return (
        f"{used} of faces as `mtmsa prepare --margin {prepared['margin']:g}` crops them" if prepared else used
    )


def preprocessing_of(data: "FaceDataModule") -> dict[str, Any]:
    """Return how a DataModule's faces reach the network, as :func:`warn_preprocessing` compares it."""
    return {"image_size": data.image_size, "crop": data.crop, "preparation": preparation(data.root)}


def warn_preprocessing(trained: dict[str, Any], used: dict[str, Any], where: str) -> None:
    """Warn where faces reach a network otherwise than in its training.

    Args:
        trained: A checkpoint's record: ``image_size`` in pixels, ``crop`` as a fraction, and ``preparation``,
            how a prepared set was made or None for images as they are; what is not in it is not compared.
        used: The same of the faces that the network is about to be given.
        where: What holds these faces.
    """
    for key, told in _PREPROCESSING.items():
        if key in trained and told(trained[key]) != told(used[key]):
            log.warning(
                "the checkpoint was trained on %s, but %s holds %s",
                told(trained[key]),
                where,
                told(used[key]),
            )


def _alignment(made: dict[str, Any] | None) -> str:
    """Say how faces were cropped, as far as it decides what a network sees."""
    if made is None:
        return "images as they are"
    crop = made.get("crop", {})
    search = "found by a detector" if isinstance(crop.get("detector"), dict) else "placed without a detector"
    return f"faces {search}, `mtmsa prepare --margin {crop.get('margin')}`"


_PREPROCESSING: dict[str, Callable[[Any], str]] = {
    "image_size": lambda side: f"faces of {side} px (data.image_size)",
    "crop": lambda crop: f"the central {100 * crop:.0f} % of its images (data.crop)",
    "preparation": _alignment,
}
