"""Drawings of the page as HTML: SVG and embedded images, without files."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.inference.face import Age, Face, Interval
from mtmsa_lightning.reports.html import Picture, environment
from mtmsa_lightning.reports.plots.attention import AMPLIFIED, DAMPED
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL

_PARTS = environment.get_template("app.html").module

SHOWN_SIDE = 1280  # maximum of pixels of the longer side of a shown photo

_WIDTH, _HEIGHT, _FLOOR, _EDGE = 320, 120, 84, 12
"""The age curve: width, height, position of its axis, and margin on both sides."""


def part(name: str, *values: Any) -> Markup:
    """Return a part of the page, a macro of ``app.html``; texts among the values are escaped."""
    return Markup(getattr(_PARTS, name)(*values))


def photo_with_boxes(photo: Image, faces: Sequence[Face]) -> Markup:
    """Draw an RGB photo with a numbered box around each face, which links to its card."""
    height, width = photo.shape[:2]
    boxes = []
    for face in faces:
        left, top, right, bottom = face.box  # in SVG, the centre of a pixel is at half numbers
        boxes.append({"x": left + 0.5, "y": top + 0.5, "width": right - left, "height": bottom - top})
    scale = SHOWN_SIDE / max(height, width)
    if scale < 1:
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photo = np.asarray(small, np.uint8)
    label = f"The photo with {pluralize(len(faces), 'face')}, boxed and numbered" if faces else "The photo"
    return part("photo", width, height, embedded(photo, ".jpg"), boxes, label)


def embedded(image: NDArray[np.uint8], kind: str = ".png") -> str:
    """Return an RGB or RGBA image, uint8, (height, width, channels), as a data URI."""
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, data = cv2.imencode(kind, cv2.cvtColor(image, code))
    return Picture(data.tobytes(), "").uri


def age_range(age: Age) -> Interval:
    """Return the range of the curve's axis: 0 to 100, or to 120 if needed."""
    high = float(age.distribution.quantile(0.99))
    return (0.0, 100.0) if high <= 100 else (0.0, 120.0)


def density(age: Age, steps: int = 480) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ages in years over the curve's range, including the mean, and the density per year at each."""
    low, high = age_range(age)
    mean = min(max(age.mean, low), high)
    ages = torch.from_numpy(np.sort(np.append(np.linspace(low, high, steps + 1), mean)))
    return ages.numpy(), age.distribution.log_prob(ages).exp().numpy()


def age_curve(age: Age, text: str) -> Markup:
    """Draw the density of age as SVG, its part inside the interval in colour, with a line at the mean."""
    first, last = age_range(age)
    ages, values = density(age)
    scale = (_WIDTH - 2 * _EDGE) / (last - first)
    x = _EDGE + (ages - first) * scale
    y = _FLOOR - values / (values.max() or 1.0) * (_FLOOR - 8)  # a flat line if there is no mass on the axis
    low, high = age.interval(INTERVAL_LEVEL)
    inside = (ages >= low) & (ages <= high)
    mean = _EDGE + (min(max(age.mean, first), last) - first) * scale
    band = ""
    if inside.any():
        held, xs = _points(x[inside], y[inside]), x[inside]
        band = f"M{xs[0]:.1f},{_FLOOR} L{held} L{xs[-1]:.1f},{_FLOOR} Z"
    ticks = {year: _EDGE + (year - first) * scale for year in range(int(first), int(last) + 1, 20)}
    return part("curve", _WIDTH, _HEIGHT, _FLOOR, _EDGE, f"M{_points(x, y)}", band, mean, ticks, text)


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def percent(probability: float) -> str:
    """Return a probability in whole percent, but never 0 or 100 % if it is not 0 or 1."""
    if 0 < probability < 0.005:
        return "< 1 %"
    if 0.995 <= probability < 1:
        return "> 99 %"
    return f"{100 * probability:.0f} %"


def bars(title: str, probabilities: Mapping[str, float], marked: str = "") -> Markup:
    """Draw fractions by name as a table with a bar in each row, the largest in bold and with a note."""
    largest = max(probabilities, key=lambda name: probabilities[name])
    rows = [
        {
            "name": name,
            "most": name == largest,
            "percent": 100 * share,
            "text": f"{percent(share)} {marked if name == largest else ''}".rstrip(),
        }
        for name, share in probabilities.items()
    ]
    return part("bars", title, rows)


def gates_over(face: Image, gates: NDArray[np.float32], most: float, alt: str) -> Markup:
    """Draw the gates (averaged over channels, ``(h, w)``) of an attention module over a face, RGB.

    Above 0 amplifies (orange), below 0 damps (blue); ``most`` gets the deepest colour.
    """
    side = max(face.shape[0], 112)
    strength = np.clip(cv2.resize(gates, (side, side), interpolation=cv2.INTER_LINEAR) / most, -1, 1)
    amplified, damped = (list(bytes.fromhex(colour[1:])) for colour in (AMPLIFIED, DAMPED))
    colours = np.where(strength[..., None] > 0, amplified, damped)
    layer = np.dstack([colours, np.rint(190 * np.abs(strength))]).astype(np.uint8)
    return part("stack", embedded(face), embedded(layer), alt)
