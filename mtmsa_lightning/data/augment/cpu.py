"""Augmentation and resizing: the only module that knows albumentations.

albumentations 2.0 keeps one random state per pipeline, so that workers and epochs repeat each other's draws.
Here the state is set for every sample from ``(seed, epoch, index)``: what a sample looks like depends on
nothing else, neither on the worker, nor on the rank, nor on the history of the process.
"""

import math
import os
import random
from hashlib import blake2b
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtmsa_lightning._utils.images import Image, central_square


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Mix three integers into a 32-bit seed, equal on every platform."""
    digest = blake2b(f"{seed}|{epoch}|{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


class FaceTransform:
    """Central crop, augmentation (training only), resize to a square.

    Args:
        image_size: Side of the output in pixels.
        crop: Side of the central square that is used, as a fraction of the shorter side of the image.
        augment: Draw random flips, scales, rotations and colours.
    """

    def __init__(self, image_size: int, crop: float = 1.0, augment: bool = False) -> None:
        self.image_size = image_size
        self.crop = crop
        self.augmentation = augmentation(image_size) if augment else None

    def __call__(self, image: Image, seed: int = 0) -> Image:
        """Return the image, shape (image_size, image_size, 3); ``seed`` fixes all draws."""
        image = central_square(image, self.crop)
        if self.augmentation is None:
            image = resize(image, self.image_size)
        else:
            set_random_state(self.augmentation, seed)
            image = self.augmentation(image=image)["image"]
        return np.require(image, np.uint8, ["C_CONTIGUOUS", "WRITEABLE"])


class AugmentationParams(NamedTuple):
    """What the augmentation drew for one face, in the order of its steps.

    Attributes:
        left: First column of the crop, in pixels of the image that is augmented.
        top: First row of the crop.
        width: Columns of the crop.
        height: Rows of the crop.
        mirrored: 1 or 0.
        degrees: Angle of the rotation, counter-clockwise; 0 for none.
        brightness: Factor; likewise ``contrast`` and ``saturation``.
        contrast: See ``brightness``.
        saturation: See ``brightness``.
        hue: Shift as a fraction of the circle of hues.
        first: Which of brightness (0), contrast (1), saturation (2) and hue (3) comes first; -1 for none.
        second: Likewise.
        third: Likewise.
        fourth: Likewise.
        grey: 1 or 0.
    """

    left: float
    top: float
    width: float
    height: float
    mirrored: float
    degrees: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    first: float
    second: float
    third: float
    fourth: float
    grey: float


class AugmentationParamSampler:
    """Draws what the augmentation would do to a square image, without doing it.

    albumentations itself draws, from the same random state and in the same order as in ``FaceTransform``: a
    face is augmented alike whether on the CPU or, by ``device_augmentation``, on the accelerator.

    Args:
        source_size: Side of the images that will be augmented, in pixels.
        image_size: Side of the output in pixels.
    """

    def __init__(self, source_size: int, image_size: int) -> None:
        self.augmentation = augmentation(image_size)
        self._source = {"shape": (source_size, source_size, 3)}
        self._resized = {"shape": (image_size, image_size, 3)}

    def __call__(self, seed: int) -> AugmentationParams:
        """Return what ``FaceTransform`` would do at this seed."""
        set_random_state(self.augmentation, seed)
        self.augmentation.py_random.random()  # whether anything is done at all: always
        crop, flip, rotation, jitter, grey = self.augmentation.transforms
        left, top, right, bottom = crop.get_params_dependent_on_data(self._source, {})["crop_coords"]
        mirrored = flip.should_apply()
        degrees = 0.0
        if rotation.should_apply():
            degrees = rotation.get_params_dependent_on_data(self._resized, {})["rotate"]
        colours = jitter.get_params() if jitter.should_apply() else _NO_JITTER
        first, second, third, fourth = colours["order"]
        return AugmentationParams(
            left, top, right - left, bottom - top, mirrored, degrees,
            colours["brightness"], colours["contrast"], colours["saturation"],
            math.floor(colours["hue"] * _OPENCV_HUES) / _OPENCV_HUES,
            first, second, third, fourth, grey.should_apply(),
        )  # fmt: skip


_OPENCV_HUES = 180  # in 8-bit images hue turns by whole steps of two degrees, rounded down
_NO_JITTER: dict[str, Any] = {
    "brightness": 1,
    "contrast": 1,
    "saturation": 1,
    "hue": 0,
    "order": (-1, -1, -1, -1),
}


def set_random_state(pipeline: Any, seed: int) -> None:
    """Fix all draws of an albumentations pipeline.

    Not by its set_random_seed(seed), which starts every step alike: what is mirrored is then also rotated.
    """
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))


def resize(image: Image, size: int) -> Image:
    """Resize to (size, size, 3); area averaging when shrinking, so that wrinkles do not alias."""
    shrinks = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), dtype=np.uint8)


def augmentation(image_size: int) -> Any:
    """Build the training augmentation: what camera and detector vary, and nothing that ages a face."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the internet for news
    import albumentations as A

    return A.Compose(
        [
            A.RandomResizedCrop(
                (image_size, image_size),
                scale=(0.8, 1.0),
                ratio=(0.9, 1.1),
                interpolation=cv2.INTER_LINEAR,
                area_for_downscale="image",  # as in ``resize``
            ),
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-10, 10), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=0.5),
            A.ToGray(p=0.05),
        ]
    )
