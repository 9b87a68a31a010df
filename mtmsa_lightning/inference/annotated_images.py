"""Images of predictions, without metadata of the photos: annotated copies, and one sheet of many faces."""

import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.atomic_write import write_bytes
from mtmsa_lightning._utils.images import Image, UnreadableImageError
from mtmsa_lightning.align.detected_face import scale_pixels
from mtmsa_lightning.inference.face import BOX
from mtmsa_lightning.inference.inputs import Input, Inputs
from mtmsa_lightning.inference.prediction_parts import Parts
from mtmsa_lightning.settings.defaults import SHEET_FACES

LONGER_SIDE = 1600  # larger photos are shrunk to this many pixels before drawing
LEAST_SIDE = 400  # smaller photos are enlarged to this many pixels, so that captions do not cover a face
TILE = 160  # side of a face on the sheet, in pixels

_ACROSS = 10
_LINE = 18  # height of a line of text below a tile
_LINES = 4  # file, age, gender, race
_LETTERS = 20  # of a line below a tile
_ROOM = 0.25  # around a box, as a fraction of its size
_SURE, _UNSURE = (20, 110, 40), (170, 85, 0)  # RGB, with white text
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(source: Input, faces: pd.DataFrame, file: Path) -> None:
    """Write a copy of an image with a box and a caption for each face, a row of the table."""
    photo, factor = source.read_photo()
    image, scale = _fitted(photo)
    rows = faces.to_dict("records")
    boxes = [_box(face, factor) * scale for face in rows]
    if source.known is not None:  # a crop, whose box is that of another image
        boxes = [np.array([0, 0, image.shape[1] - 1, image.shape[0] - 1], np.float64) for _ in rows]
    words = [_Caption.of(caption(face), box) for face, box in zip(rows, boxes, strict=True)]
    image = _with_room(image, boxes, words)
    for face, box, text in zip(rows, boxes, words, strict=True):
        _draw(image, box, text, _UNSURE if face.get("unsure") else _SURE)
    _write(file, image)


def picture_file(folder: Path, position: int, source: Input) -> Path:
    """Return the file of an annotated image, unique by its position among all inputs."""
    stem = Path(source.file).stem.encode()[:150].decode(errors="ignore")  # a name may have 255 bytes
    return folder / f"{position:07d}-{stem}.jpg"


def caption(face: Mapping[Any, Any]) -> list[str]:
    """Return the lines of a face's caption, in ASCII, which OpenCV can draw."""
    lines = []
    if "age_mean" in face:
        mark = " ?" if face.get("unsure") else ""
        low, high = face["age_low90"], face["age_high90"]
        lines.append(f"{face['age_mean']:z.0f} ({low:z.0f} to {high:z.0f}){mark}")
    for task in ("gender_", "race_"):
        probs = {name.removeprefix(task): face[name] for name in face if name.startswith(task)}
        if probs:
            best = max(probs, key=lambda name: probs[name])
            lines.append(f"{best} {100 * probs[best]:.0f} %")
    return lines


def label(name: str, face: int) -> str:
    """Return a file's name as a label: ASCII, shortened in its middle, with the number of a further face."""
    letters = [letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter)]
    plain = "".join(letters).encode("ascii", "replace").decode()
    number = f" #{face}" if face else ""
    room = _LETTERS - len(number)
    if len(plain) > room:
        half = (room - 2) // 2
        plain = f"{plain[: room - 2 - half]}..{plain[-half:]}"
    return plain + number


def write_sheet(parts: Parts, inputs: Inputs, faces: int, file: Path) -> None:
    """Write one ``.jpg`` or ``.png`` image with some of the ``faces`` of all parts, each with its caption."""
    wanted = np.linspace(0, faces - 1, min(SHEET_FACES, faces)).astype(int)
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
    words = [label(Path(source.file).name, int(face["face"])), *caption(face)]
    tile = np.full((TILE + _LINES * _LINE + 6, TILE + 6, 3), 255, np.uint8)
    with suppress(UnreadableImageError):  # removed in the meantime
        tile[3 : TILE + 3, 3 : TILE + 3] = _face(face, source)
    for number, text in enumerate(words):
        place = (3, TILE + 3 + (number + 1) * _LINE - 5)
        cv2.putText(tile, text, place, _FONT, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _face(face: Mapping[Any, Any], source: Input) -> Image:
    image, factor = source.read_photo()
    box = _box(face, factor)
    if source.known is None:
        size = box[2:] - box[:2]
        left, top = np.floor(box[:2] - _ROOM * size).astype(int).clip(0)
        right, bottom = np.ceil(box[2:] + _ROOM * size).astype(int)
        image = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = TILE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    square = np.full((TILE, TILE, 3), 255, np.uint8)
    top, left = (TILE - height) // 2, (TILE - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def _box(face: Mapping[Any, Any], factor: int) -> NDArray[np.float64]:
    """Return the box of a face in a photo that was reduced by a factor when it was decoded."""
    return scale_pixels(np.array([face[name] for name in BOX], np.float64), 1 / factor)


def _fitted(image: Image) -> tuple[Image, float]:
    """Return a copy whose longer side is ``LEAST_SIDE`` to ``LONGER_SIDE``, and its scale."""
    height, width = image.shape[:2]
    longer = max(height, width)
    scale = min(max(longer, LEAST_SIDE), LONGER_SIDE) / longer
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale <= 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=how)), scale


class _Caption(NamedTuple):
    """A caption and its sizes in pixels; ``letters`` is the height above the baseline."""

    lines: Sequence[str]
    scale: float
    weight: int
    padding: int
    letters: int
    line: int
    width: int
    height: int

    @classmethod
    def of(cls, lines: Sequence[str], box: NDArray[np.float64]) -> "_Caption":
        """Return a caption in a size that fits a box."""
        scale = min(max((box[2] - box[0]) / 250, 0.4), 1.0)
        weight = 1 if scale < 0.8 else 2
        padding = round(4 + 8 * scale)
        sizes = [cv2.getTextSize(text, _FONT, scale, weight) for text in lines or [""]]
        letters, below = sizes[0][0][1], sizes[0][1]  # heights above and below the baseline
        line = letters + below + round(4 * scale)
        width = max(size[0][0] for size in sizes) + 2 * padding
        height = line * len(lines) - round(4 * scale) + 2 * padding - below // 2 if lines else 0
        return cls(lines, scale, weight, padding, letters, line, width, height)


def _with_room(image: Image, boxes: Sequence[NDArray[np.float64]], words: Sequence[_Caption]) -> Image:
    """Return the image, with a grey strip below if a caption fits neither above nor below its box."""
    edge = _thickness(image)
    missing = [
        round(box[3]) + edge + text.height - image.shape[0]
        for box, text in zip(boxes, words, strict=True)
        if box[1] < text.height
    ]
    room = max([0, *missing])
    return np.pad(image, ((0, room), (0, 0), (0, 0)), constant_values=128)


def _thickness(image: Image) -> int:
    longer: int = max(image.shape[:2])
    return max(1, round(longer / 400))


def _draw(image: Image, box: NDArray[np.float64], words: _Caption, colour: tuple[int, ...]) -> None:
    """Draw a box with its caption above, or below if there is no room."""
    left, top, right, bottom = (int(edge) for edge in box.round())
    thickness = _thickness(image)
    cv2.rectangle(image, (left, top), (right, bottom), colour, thickness)
    edge = thickness // 2  # of the box, whose middle is at its coordinates
    x = max(0, min(left - edge, image.shape[1] - words.width))
    y = top - words.height if top >= words.height else bottom + edge + 1
    if words.lines:
        cv2.rectangle(image, (x, y), (x + words.width - 1, y + words.height - 1), colour, cv2.FILLED)
    for number, text in enumerate(words.lines):
        place = (x + words.padding, y + words.padding + words.letters + number * words.line)
        cv2.putText(image, text, place, _FONT, words.scale, (255, 255, 255), words.weight, cv2.LINE_AA)


def _write(file: Path, image: Image) -> None:
    """Write an image atomically."""
    done, data = cv2.imencode(file.suffix, image[..., ::-1])
    assert done
    write_bytes(file, data.tobytes())
