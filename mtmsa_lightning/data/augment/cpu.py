"""Augmentation and resizing with albumentations.

albumentations 2.0 has one random state per pipeline. It is set for every sample from ``(seed, epoch,
index)``, so that samples do not depend on worker or rank.
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
    """Hash three integers to a 32-bit seed, equal on every platform."""
    digest = blake2b(f"{seed}|{epoch}|{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


class FaceTransform:
    """Central crop, optional augmentation, and resizing to a square.

    Args:
        image_size: Side of the output in pixels.
        crop: Side of the central square that is used, as a fraction of the shorter side of the image.
        augment: Apply random crops, flips, rotations and colour changes.
    """

    def __init__(self, image_size: int, crop: float = 1.0, augment: bool = False) -> None:
        self.image_size = image_size
        self.crop = crop
        self.augmentation = augmentation(image_size) if augment else None

    def __call__(self, image: Image, seed: int = 0) -> Image:
        """Return the image, shape (image_size, image_size, 3); ``seed`` is that of the augmentation."""
        image = central_square(image, self.crop)
        if self.augmentation is None:
            image = resize(image, self.image_size)
        else:
            set_random_state(self.augmentation, seed)
            image = self.augmentation(image=image)["image"]
        return np.require(image, np.uint8, ["C_CONTIGUOUS", "WRITEABLE"])


class AugmentationParams(NamedTuple):
    """Parameters of the augmentation of one face, in the order of its steps.

    Attributes:
        left: First column of the crop, in pixels of the input image; likewise ``top`` for its row.
        width: Columns of the crop; likewise ``height`` for its rows.
        mirrored: 1 or 0, like ``grey``.
        degrees: Angle of the rotation, counter-clockwise; 0 for none.
        brightness: Factor of brightness; likewise ``contrast`` and ``saturation``.
        hue: Shift as a fraction of the hue circle.
        first: First colour change: brightness (0), contrast (1), saturation (2), hue (3) or none (-1);
            likewise ``second``, ``third`` and ``fourth``.
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
    """Draws the parameters of the augmentation of a square image, without applying them.

    They come from albumentations, with the same random state and order as in ``FaceTransform``, so that
    :func:`.device.augment` applies the same augmentation as the CPU.

    Args:
        source_size: Side of the images to augment, in pixels.
        image_size: Side of the output in pixels.
    """

    def __init__(self, source_size: int, image_size: int) -> None:
        self.augmentation = augmentation(image_size)
        self._source = {"shape": (source_size, source_size, 3)}
        self._resized = {"shape": (image_size, image_size, 3)}

    def __call__(self, seed: int) -> AugmentationParams:
        """Return the parameters that ``FaceTransform`` uses for this seed."""
        set_random_state(self.augmentation, seed)
        self.augmentation.py_random.random()  # Compose's own probability, 1
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


_OPENCV_HUES = 180  # hues of 8-bit images, in steps of two degrees
_NO_JITTER: dict[str, Any] = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0, "order": (-1,) * 4}


def set_random_state(pipeline: Any, seed: int) -> None:
    """Set the random state of an albumentations pipeline."""
    # its own `set_random_seed` seeds every step equally: mirrored images would also be rotated
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))


def resize(image: Image, size: int) -> Image:
    """Resize to (size, size, 3), with area averaging when shrinking to avoid aliasing."""
    shrinks = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), dtype=np.uint8)


def augmentation(image_size: int) -> Any:
    """Build the training augmentation: mild changes that do not affect the apparent age."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import makes a network request
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
