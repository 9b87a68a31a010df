"""Parameters of the augmentation of a face, drawn without applying them."""

import math
from typing import Any, NamedTuple

from mtmsa_lightning.data.augment.presets import PRESETS
from mtmsa_lightning.data.augment.random_state import set_random_state


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
        erased_left: First column of the erased rectangle, in pixels of the output; likewise ``erased_top``.
        erased_width: Columns of the erased rectangle, 0 for none; likewise ``erased_height``.
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
    erased_left: float = 0
    erased_top: float = 0
    erased_width: float = 0
    erased_height: float = 0


class AugmentationParamSampler:
    """Draws the parameters of the augmentation of a square image, without applying them.

    They come from albumentations, with the same random state and order as in ``FaceTransform``, so that
    :func:`.device.augment` applies the same augmentation as the CPU.

    Args:
        source_size: Side of the images to augment, in pixels.
        image_size: Side of the output in pixels.
        preset: Name of the augmentation in ``PRESETS``, not ``none``.
    """

    def __init__(self, source_size: int, image_size: int, preset: str = "light") -> None:
        self.augmentation = PRESETS[preset](image_size)
        self._source = {"shape": (source_size, source_size, 3)}
        self._resized = {"shape": (image_size, image_size, 3)}

    def __call__(self, seed: int) -> AugmentationParams:
        """Return the parameters that ``FaceTransform`` uses for this seed."""
        set_random_state(self.augmentation, seed)
        self.augmentation.py_random.random()  # Compose's own probability, 1
        crop, flip, rotation, jitter, grey, *erasing = self.augmentation.transforms
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
            first, second, third, fourth, grey.should_apply(), *self._erased(*erasing),
        )  # fmt: skip

    def _erased(self, erasing: Any = None) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the erased rectangle."""
        if erasing is None or not erasing.should_apply():
            return 0, 0, 0, 0
        ((left, top, right, bottom),) = erasing.get_params_dependent_on_data(self._resized, {})["holes"]
        return left, top, right - left, bottom - top


_OPENCV_HUES = 180  # hues of 8-bit images, in steps of two degrees
_NO_JITTER: dict[str, Any] = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0, "order": (-1,) * 4}
