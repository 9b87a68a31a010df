"""The changes of photos, each with a few severities.

Amounts in pixels are fractions of the side of the crop, so that a severity means the same at every size. The
random choices of a change (position, sign, noise) do not depend on its severity.
"""

import random as python_random
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.data.stress import drawing

Change = Callable[[Image, float, float, Any], Image]
"""Changes an image of a margin by an amount with the random states that albumentations takes."""


class Stress(NamedTuple):
    """One kind of change.

    Attributes:
        name: Name in options and tables.
        unit: What an amount is, with a place for it.
        amounts: The severities, mildest first.
        change: See ``Change``.
        canonical: Whether it needs canonical crops.
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    change: Change
    canonical: bool = False

    def describe(self, severity: int) -> str:
        """Return the amount of a severity, from 1, as a text."""
        return self.unit.format(self.amounts[severity - 1])


class AppliedStress:
    """A change of one severity, which can be the augmentation of a dataset.

    Args:
        stress: The change.
        severity: Its severity, from 1.
        margin: Margin of the canonical crops; 0 for other images, on which nothing is drawn.
    """

    def __init__(self, stress: Stress, severity: int, margin: float = 0.0) -> None:
        self.stress, self.severity, self.margin = stress, severity, margin
        self.set_random_state(np.random.default_rng(0), python_random.Random(0))

    def set_random_state(self, generator: np.random.Generator, random: python_random.Random) -> None:
        """Set the random states for the next image."""
        self._states = generator, random

    def __call__(self, image: Image) -> dict[str, Image]:
        """Return the changed image by the key ``image``, as albumentations does."""
        amount = self.stress.amounts[self.severity - 1]
        return {"image": self.stress.change(image, amount, self.margin, self._states)}


def _with(build: Callable[[float, int], Any]) -> Change:
    """Return the change of an albumentations step that depends on the amount and the side in pixels."""
    cached = lru_cache(maxsize=256)(lambda amount, side: A.Compose([build(amount, side)]))

    def change(image: Image, amount: float, margin: float, states: Any) -> Image:
        pipeline = cached(amount, min(image.shape[:2]))
        pipeline.set_random_state(*states)
        return np.asarray(pipeline(image=image)["image"])

    return change


def _drawn(draw: Callable[[Image, float, float, np.random.Generator], Image]) -> Change:
    return lambda image, amount, margin, states: draw(image, margin, amount, states[0])


def _low_resolution(image: Image, pixels: float, margin: float, states: Any) -> Image:
    """Shrink the image to a side in pixels and enlarge it again; smaller images stay."""
    height, width = image.shape[:2]
    scale = pixels / min(height, width)
    if scale >= 1:
        return image
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _rotate(degrees: float, side: int) -> Any:
    turns = [A.Rotate((angle, angle), border_mode=cv2.BORDER_REPLICATE, p=1) for angle in (degrees, -degrees)]
    return A.OneOf(turns, p=1)


def _cover(fraction: float, side: int) -> Any:
    size = (fraction, fraction)
    return A.CoarseDropout((1, 1), size, size, fill=127, p=1)


STRESSES: tuple[Stress, ...] = (
    Stress("blur", "Gaussian, sigma {:.1%} of the side", (0.01, 0.02, 0.04), _with(
        lambda sigma, side: A.GaussianBlur(blur_limit=0, sigma_limit=(sigma * side,) * 2, p=1)
    )),
    Stress("jpeg", "quality {:.0f}", (40, 15, 5), _with(
        lambda quality, side: A.ImageCompression(quality_range=(int(quality),) * 2, p=1)
    )),
    Stress("low_resolution", "{:.0f} px", (48, 32, 16), _low_resolution),
    Stress("noise", "Gaussian, std {:.0%} of white", (0.05, 0.1, 0.2), _with(
        lambda std, side: A.GaussNoise(std_range=(std, std), p=1)
    )),
    Stress("low_light", "brightness times {:.3g}", (0.5, 0.25, 0.125), _with(
        lambda left, side: A.RandomBrightnessContrast((0, 0), (left - 1, left - 1), p=1)
    )),
    Stress("rotation", "{:.0f} degrees", (10, 20, 40), _with(_rotate)),
    Stress("cover", "a grey square of {:.0%} of the side", (0.2, 0.35, 0.5), _with(_cover)),
    Stress("grey", "no colour", (1,), _with(lambda amount, side: A.ToGray(p=1))),
    Stress("beard", "hairs on {:.0%} of the skin", (0.1, 0.25, 0.5), _drawn(drawing.beard),
           canonical=True),
    Stress("wrinkles", "{:.0%} darker lines", (0.15, 0.3, 0.5), _drawn(drawing.wrinkles), canonical=True),
    Stress("glasses", "lenses of {:.0%} opacity", (0.0, 0.4, 0.85), _drawn(drawing.glasses), canonical=True),
)  # fmt: skip
"""All changes, in the order of tables."""
