"""Describe the preprocessing of faces, and warn where it differs from that in training."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.data.prepared.format import BOXED

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule

log = logging.getLogger(__name__)


def describe_crop(crop: float, preparation: dict[str, Any] | None) -> str:
    """Describe which part of an image is used.

    Args:
        crop: Side of the central square, as a fraction of the shorter side.
        preparation: The record of a prepared set, see ``format.preparation``, or ``BOXED``; None for raw
            images.
    """
    used = "central square" + (f" of {100 * crop:.0f} % of the shorter side" if crop != 1 else "")
    prepared = (preparation or {}).get("crop")
    if preparation == BOXED:
        used += " around the face box of the table"
    elif prepared:
        used += f" of faces as `mtmsa prepare --margin {prepared['margin']:g}` crops them"
    return used


def preprocessing_of(data: "FaceDataModule") -> dict[str, Any]:
    """Return the preprocessing of a DataModule's faces, for :func:`warn_preprocessing`."""
    return {"image_size": data.image_size, "crop": data.crop, "preparation": data.preparation}


def warn_preprocessing(trained: dict[str, Any], used: dict[str, Any], where: str) -> None:
    """Warn about differences between the preprocessing in training and that of the current faces.

    Args:
        trained: A checkpoint's record, as from :func:`preprocessing_of`; missing keys are not compared.
        used: The same for the current faces.
        where: Name of the source of these faces.
    """
    for before, now in _differences(trained, used):
        log.warning("the checkpoint was trained on %s, but %s holds %s", before, where, now)


def preprocessing_differences(trained: Mapping[str, Any], used: Mapping[str, Any]) -> list[str]:
    """Return the differences of :func:`warn_preprocessing` as texts."""
    return [f"trained on {before}, tested on {now}" for before, now in _differences(trained, used)]


def _differences(trained: Mapping[str, Any], used: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [
        (describe(trained[key]), describe(used[key]))
        for key, describe in _PREPROCESSING.items()
        if key in trained
    ]
    return [(before, now) for before, now in pairs if before != now]


def _alignment(made: dict[str, Any] | None) -> str:
    """Describe how faces were cropped."""
    if made is None:
        return "images that were not prepared"
    if made == BOXED:
        return "faces that were cropped to the boxes of a table"
    crop = made.get("crop", {})
    search = "found by a detector" if isinstance(crop.get("detector"), dict) else "placed without a detector"
    return f"faces {search}, `mtmsa prepare --margin {crop.get('margin')}`"


_PREPROCESSING: dict[str, Callable[[Any], str]] = {
    "image_size": lambda side: f"faces of {side} px (data.image_size)",
    "crop": lambda crop: f"the central {100 * crop:.0f} % of its images (data.crop)",
    "preparation": _alignment,
}
