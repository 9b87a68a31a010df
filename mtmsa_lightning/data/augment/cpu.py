"""Central crop, augmentation and resizing of an image on the CPU."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import cv2
import numpy as np

from mtmsa_lightning._utils.images import Image, central_square
from mtmsa_lightning.data.augment.presets import PRESETS, preset_name
from mtmsa_lightning.data.augment.random_state import global_random_states, set_random_state
from mtmsa_lightning.errors import ConfigError


class FaceTransform:
    """Central crop, optional augmentation, and resizing to a square.

    Args:
        image_size: Side of the output in pixels.
        crop: Side of the central square that is used, as a fraction of the shorter side of the image.
        augment: Name of a preset (true: ``light``, false: ``none``), an albumentations pipeline, or a
            callable that changes an image; see :func:`.pipelines.build_augmentation`.
    """

    def __init__(self, image_size: int, crop: float = 1.0, augment: Any = False) -> None:
        self.image_size = image_size
        self.crop = crop
        preset = preset_name(augment)
        self.augmentation = PRESETS[preset](image_size) if preset else augment
        self._own = preset is None

    def __call__(self, image: Image, seed: int = 0) -> Image:
        """Return the image, shape (image_size, image_size, 3); ``seed`` is that of the augmentation."""
        image = central_square(image, self.crop)
        if self._own:
            image = self._augmented(image, seed)
        elif self.augmentation is not None:
            image = augmented(self.augmentation, image, seed)
        if image.shape[:2] != (self.image_size, self.image_size) or self.augmentation is None:
            image = resize(image, self.image_size)
        return np.require(image, np.uint8, ["C_CONTIGUOUS", "WRITEABLE"])

    def _augmented(self, image: Image, seed: int) -> Image:
        """Apply the user's augmentation; an error in the user's own class keeps its type."""
        try:
            return augmented(self.augmentation, image.copy(), seed, isolated=True)
        except Exception as error:
            if isinstance(error, ConfigError) or not hasattr(self.augmentation, "set_random_state"):
                raise
            height, width = image.shape[:2]
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"data.augment fails on an image of {width} x {height} pixels: {reason}"
            ) from error


def augmented(augmentation: Callable[..., Any], image: Image, seed: int, isolated: bool = False) -> Image:
    """Return an image that is changed with the random state of a seed.

    Args:
        augmentation: An albumentations pipeline, or a callable that takes and returns an image.
        image: The image, which a callable may overwrite.
        seed: Seed of the random state.
        isolated: Also seed the global random states during the call.

    Raises:
        ConfigError: The result is not a uint8 RGB image.
    """
    with global_random_states(seed) if isolated else nullcontext():
        if hasattr(augmentation, "set_random_state"):
            set_random_state(augmentation, seed)
            result = augmentation(image=image)["image"]
        else:
            result = augmentation(image)
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape[2:] != (3,):
        kind = getattr(result, "dtype", type(result).__name__)
        shape = tuple(getattr(result, "shape", ()))
        raise ConfigError(
            f"data.augment returns {kind} of shape {shape}, not uint8 RGB of shape (height, width, 3): "
            "remove steps such as Normalize and ToTensorV2; the model normalises"
        )
    return result


def resize(image: Image, size: int) -> Image:
    """Resize to (size, size, 3), with area averaging when shrinking to avoid aliasing."""
    shrinks = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), dtype=np.uint8)
