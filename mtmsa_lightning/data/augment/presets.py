"""The augmentations of the package, by name."""

import os
from collections.abc import Callable
from typing import Any

import cv2

ERASED = (124, 116, 104)
"""Colour of erased rectangles: the mean of ImageNet, 0 for the network."""


def light(image_size: int) -> Any:
    """Build mild changes that do not affect the apparent age."""
    library = albumentations()
    return library.Compose(
        [
            _crop(image_size, (0.8, 1.0), (0.9, 1.1)),
            library.HorizontalFlip(p=0.5),
            library.Affine(rotate=(-10, 10), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            library.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=0.5),
            library.ToGray(p=0.05),
        ]
    )


def strong(image_size: int) -> Any:
    """Build strong changes: crops from half of the face, colour, grey, and erased rectangles.

    Erasing: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.
    """
    library = albumentations()
    return library.Compose(
        [
            _crop(image_size, (0.5, 1.0), (0.8, 1.25)),
            library.HorizontalFlip(p=0.5),
            library.Affine(rotate=(-15, 15), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            library.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05, p=0.8),
            library.ToGray(p=0.1),
            library.Erasing(scale=(0.02, 0.2), ratio=(0.3, 3.3), fill=ERASED, p=0.5),
        ]
    )


PRESETS: dict[str, Callable[[int], Any]] = {"none": lambda _: None, "light": light, "strong": strong}
"""Builders of albumentations pipelines for a size of the output in pixels.

The steps are those that :class:`.params.AugmentationParamSampler` draws for the device.
"""


def preset_name(setting: object) -> str | None:
    """Return the name of a preset that a setting chooses (true: ``light``, false: ``none``), or None."""
    if setting is None or isinstance(setting, bool):
        return "light" if setting else "none"
    return setting if isinstance(setting, str) and setting in PRESETS else None


def albumentations() -> Any:
    """Import albumentations without its network request."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _crop(image_size: int, scale: tuple[float, float], ratio: tuple[float, float]) -> Any:
    return albumentations().RandomResizedCrop(
        (image_size, image_size),
        scale=scale,
        ratio=ratio,
        interpolation=cv2.INTER_LINEAR,
        area_for_downscale="image",  # as in ``cpu.resize``
    )
