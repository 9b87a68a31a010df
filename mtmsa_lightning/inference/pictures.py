"""Pictures of what was said: annotated copies of photos, and one sheet of many faces.

They show people, so they are made only when asked for; being drawn anew, they carry nothing of a photo's
metadata, such as its place.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning.data.images import Image, UnreadableImageError
from mtmsa_lightning.inference.inputs import BOX, Input, Inputs
from mtmsa_lightning.inference.parts import Parts

LONGER_SIDE = 1600
"""Larger photos are shrunk to this many pixels before they are drawn on."""

TILE = 160
"""Side of a face on the sheet, in pixels."""

TILES = 120
"""Most faces on a sheet; of more faces those are shown that are spread evenly over the table."""

_ACROSS = 10
_LINE = 18  # height of a line of text below a tile
_ROOM = 0.25  # shown around a box, as a fraction of its size
_SURE, _UNSURE = (20, 110, 40), (170, 85, 0)  # RGB; white is read well on both
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(source: Input, faces: pd.DataFrame, file: Path) -> None:
    """Write a copy of an image with a box and a few words for each face.

    Args:
        source: The image.
        faces: Its rows of the table.
        file: Where to write.
    """
    image, scale = _shrunk(source.read())
    for face in faces.to_dict("records"):
        box = np.array([face[name] for name in BOX]) * scale
        if source.known is not None:  # a crop: its box lies in another picture
            box = np.array([0, 0, image.shape[1] - 1, image.shape[0] - 1], np.float64)
        _draw(image, box, caption(face), _UNSURE if face.get("unsure") else _SURE)
    _write(file, image)


def picture_file(folder: Path, position: int, source: Input) -> Path:
    """Return the file of an annotated picture; by the position among all inputs no two are equal."""
    stem = Path(source.file).stem.encode()[:150].decode(errors="ignore")  # a name may have 255 bytes
    return folder / f"{position:07d}-{stem}.jpg"


def caption(face: Mapping[Any, Any]) -> list[str]:
    """Return what is said of a face, in a few words, one text per line: ASCII, which is what can be drawn."""
    lines = []
    if "age_mean" in face:
        mark = " ?" if face.get("unsure") else ""
        low, high = face["age_low90"], face["age_high90"]
        lines.append(f"{face['age_mean']:.0f} ({low:.0f} to {high:.0f}){mark}")
    for task in ("gender_", "race_"):
        probs = {name.removeprefix(task): face[name] for name in face if name.startswith(task)}
        if probs:
            best = max(probs, key=lambda name: probs[name])
            lines.append(f"{best} {100 * probs[best]:.0f} %")
    return lines


def write_sheet(parts: Parts, inputs: Inputs, faces: int, file: Path) -> None:
    """Write one picture with many faces and what is said of them; without names of files.

    Args:
        parts: All parts of the table.
        inputs: Their images.
        faces: Number of rows in all parts, at least one.
        file: Where to write, a ``.jpg`` or ``.png`` file.
    """
    wanted = np.linspace(0, faces - 1, min(TILES, faces)).astype(int)
    tiles: list[Image] = []
    start = 0
    for number in parts.numbers:
        rows = parts.read(number)
        chosen = rows.iloc[wanted[(wanted >= start) & (wanted < start + len(rows))] - start]
        sources = {inputs[position].file: inputs[position] for position in parts.positions(number)}
        tiles += [_tile(face, sources[face["file"]]) for face in chosen.to_dict("records")]
        start += len(rows)
    across = min(_ACROSS, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % across)
    lines = [np.hstack(tiles[first : first + across]) for first in range(0, len(tiles), across)]
    _write(file, np.vstack(lines))


def _tile(face: Mapping[Any, Any], source: Input) -> Image:
    """Return a face with its caption below."""
    tile = np.full((TILE + 3 * _LINE + 6, TILE + 6, 3), 255, np.uint8)
    with suppress(UnreadableImageError):  # gone since: the words stay
        tile[3 : TILE + 3, 3 : TILE + 3] = _face(face, source)
    for number, text in enumerate(caption(face)):
        place = (3, TILE + 3 + (number + 1) * _LINE - 5)
        cv2.putText(tile, text, place, _FONT, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _face(face: Mapping[Any, Any], source: Input) -> Image:
    image = source.read()
    box = np.array([face[name] for name in BOX])
    if source.known is None:
        size = box[2:] - box[:2]
        left, top = np.floor(box[:2] - _ROOM * size).astype(int).clip(0)
        right, bottom = np.ceil(box[2:] + _ROOM * size).astype(int)
        image = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = TILE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    square = np.full((TILE, TILE, 3), 255, np.uint8)
    square[:height, :width] = small
    return square


def _shrunk(image: Image) -> tuple[Image, float]:
    """Return a copy no larger than ``LONGER_SIDE``, and its scale."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)), scale


def _draw(image: Image, box: NDArray[np.float64], lines: Sequence[str], colour: tuple[int, ...]) -> None:
    """Draw a box, and words on its colour: above it, or below where there is no room."""
    left, top, right, bottom = (int(edge) for edge in box.round())
    thickness = max(1, round(max(image.shape[:2]) / 400))
    cv2.rectangle(image, (left, top), (right, bottom), colour, thickness)
    scale = min(max((right - left) / 250, 0.4), 1.0)
    height = round(28 * scale)
    room = height * len(lines)
    start = top - room if top >= room else min(bottom + thickness, image.shape[0] - room)
    for number, text in enumerate(lines):
        (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
        x, y = max(0, min(left, image.shape[1] - width)), start + number * height
        cv2.rectangle(image, (x, y), (x + width, y + height), colour, cv2.FILLED)
        place = (x, y + height - round(8 * scale))
        cv2.putText(image, text, place, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _write(file: Path, image: Image) -> None:
    """Write a picture under another name and rename it."""
    done, data = cv2.imencode(file.suffix, image[..., ::-1])
    assert done
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(data.tobytes())
    partial.replace(file)
