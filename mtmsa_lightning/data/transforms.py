"""Augmentation and resizing: the only module that knows albumentations.

albumentations 2.0 keeps one random state per pipeline, so that workers and epochs repeat each other's draws.
Here the state is set for every sample from ``(seed, epoch, index)``: what a sample looks like depends on
nothing else, neither on the worker, nor on the rank, nor on the history of the process.
"""

import os
import random
from hashlib import blake2b
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning.data.images import Image, central_square


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Mix three integers into a 32-bit seed, equal on every platform."""
    digest = blake2b(f"{seed}|{epoch}|{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


class FaceTransform:
    """Central crop, augmentation (training only), resize to a square, channels first.

    Args:
        image_size: Side of the output in pixels.
        crop: Side of the central square that is used, as a fraction of the shorter side of the image.
        augment: Draw random flips, scales, rotations and colours.
    """

    def __init__(self, image_size: int, crop: float = 1.0, augment: bool = False) -> None:
        self.image_size = image_size
        self.crop = crop
        self.augmentation = augmentation(image_size) if augment else None

    def __call__(self, image: Image, seed: int = 0) -> Tensor:
        """Return the image as uint8 tensor, shape (3, image_size, image_size); ``seed`` fixes all draws."""
        image = central_square(image, self.crop)
        if self.augmentation is None:
            image = resize(image, self.image_size)
        else:
            # not set_random_seed(seed), which starts every step alike: what is mirrored is then also rotated
            self.augmentation.set_random_state(np.random.default_rng(seed), random.Random(seed))
            image = self.augmentation(image=image)["image"]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


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
