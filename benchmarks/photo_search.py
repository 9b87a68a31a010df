"""Measure which faces of photos are found, and the time per photo, by the detector alone and by the search.

Takes any folder of pictures of one upright face each. Three sets are made of them:

- ``plain``: the pictures themselves;
- ``turned``: the pictures turned by 90, 180 and 270 degrees without EXIF. A face counts as found if the
  middle of its mouth is below that of its eyes after the picture is turned back;
- ``crowd/SIZE``: pictures of SIZE pixels pasted onto a canvas of smooth noise with 12 million pixels. A
  picture counts as found if the centre of a box is within a quarter of its side of its centre.

    python benchmarks/photo_search.py --root faces/ --faces 100 --json photo_search.json
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from common import Row, number, write
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image, read_image
from mtmsa_lightning.align.detected_face import DetectedFace, largest
from mtmsa_lightning.align.search import PhotoSearch, is_upright, turned, turned_back
from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace
from mtmsa_lightning.data.release_files import list_images

SIZES = (24, 32, 48, 80, 120, 200, 300)
"""Sides in pixels of the pictures of a crowd."""

CANVAS = 4000, 3000
"""Width and height of the crowd's photo."""

MOST = 48
"""Pictures of a crowd."""

Search = Callable[[Image], list[DetectedFace]]


def timed(search: Search, photo: Image) -> tuple[list[DetectedFace], float]:
    """Return the faces of a photo and the processor time in seconds."""
    start = time.process_time()
    return search(photo), time.process_time() - start


def plain(search: Search, pictures: Sequence[Image]) -> tuple[float, float]:
    """Return the fraction of pictures with a face, and the mean time per picture."""
    looked = [timed(search, picture) for picture in pictures]
    return float(np.mean([bool(faces) for faces, _ in looked])), float(np.mean([each for _, each in looked]))


def lying(search: Search, pictures: Sequence[Image]) -> tuple[float, float]:
    """Return the fraction of turned pictures whose largest face is found upright, and the mean time."""
    right, seconds = [], []
    for picture in pictures:
        for quarters in (1, 2, 3):
            faces, took = timed(search, turned(picture, quarters))
            seconds.append(took)
            right.append(bool(faces) and _is_right(largest(faces), quarters, picture))
    return float(np.mean(right)), float(np.mean(seconds))


def _is_right(face: DetectedFace, quarters: int, picture: Image) -> bool:
    return is_upright(turned_back(face, quarters, picture))


def crowd(pictures: Sequence[Image], side: int) -> tuple[Image, NDArray[np.float64]]:
    """Return a photo of a crowd and the centres of its pictures, on a jittered grid."""
    rng = np.random.default_rng(side)
    coarse = rng.integers(60, 190, (30, 40, 3), dtype=np.uint8)
    canvas = np.asarray(cv2.resize(coarse, CANVAS, interpolation=cv2.INTER_CUBIC), np.uint8)
    across, down = 8, 6
    cell = CANVAS[0] // across, CANVAS[1] // down
    centres = []
    for place, picture in enumerate(pictures[: across * down]):
        left, top = (
            cell[axis] * index + int(rng.integers(0, max(1, cell[axis] - side)))
            for axis, index in enumerate((place % across, place // across))
        )
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        canvas[top : top + side, left : left + side] = small
        centres.append((left + side / 2, top + side / 2))
    return canvas, np.array(centres)


def recall(faces: Sequence[DetectedFace], centres: NDArray[np.float64], side: int) -> tuple[float, int]:
    """Return the fraction of pictures that are found, and the number of boxes elsewhere."""
    boxes = np.array([face.box for face in faces]).reshape(-1, 4)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = np.hypot(*(middles[:, None] - centres[None]).transpose(2, 0, 1)) < side / 4
    return float(near.any(axis=0).mean()), int((~near.any(axis=1)).sum())


def same_faces(alone: Search, search: Search, pictures: Sequence[Image]) -> float:
    """Return the fraction of pictures in which the detector's faces are unchanged by the search."""

    def key(face: DetectedFace) -> bytes:
        return face.box.tobytes() + face.landmarks.tobytes()

    return float(np.mean([{*map(key, alone(each))} <= {*map(key, search(each))} for each in pictures]))


def measure(pictures: Sequence[Image], sizes: Sequence[int], setting: str) -> list[Row]:
    """Return the rows of all sets, for the detector alone and the search."""
    detector = TinyRetinaFace()
    searches: dict[str, Search] = {"alone": detector, "search": PhotoSearch(detector)}
    rows = []

    def add(name: str, found: float, seconds: float) -> None:
        rows.append(Row(f"photo_search/{name}, found", 100 * found, "%", "more", setting))
        rows.append(Row(f"photo_search/{name}, time", 1e3 * seconds, "ms/photo", "less", setting))

    for name, search in searches.items():
        add(f"plain/{name}", *plain(search, pictures))
        add(f"turned/{name}", *lying(search, pictures))
    same = same_faces(searches["alone"], searches["search"], pictures)
    rows.append(Row("photo_search/plain, unchanged", 100 * same, "%", "more", setting))
    for side in sizes:
        photo, centres = crowd(pictures[:MOST], side)
        for name, search in searches.items():
            faces, seconds = timed(search, photo)
            found, others = recall(faces, centres, side)
            add(f"crowd/{side}/{name}", found, seconds)
            rows.append(Row(f"photo_search/crowd/{side}/{name}, others", others, "boxes", "less", setting))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the measurements side by side, in Markdown."""
    values = {row.name.removeprefix("photo_search/"): row.value for row in rows}
    names = [name.removesuffix("/alone, found") for name in values if name.endswith("/alone, found")]
    lines = ["| photos | found alone | found by search | ms alone | ms search |", "| --- " * 5 + "|"]
    for name in names:
        found, times = (
            [values[f"{name}/{how}, {what}"] for how in ("alone", "search")] for what in ("found", "time")
        )
        cells = [f"{share:.0f} %" for share in found] + [number(each) for each in times]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of pictures with one face each")
    parser.add_argument("--faces", type=int, default=100, help="pictures, evenly spread over the folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="sides of pictures")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)

    load = os.getloadavg()[0]
    cv2.setNumThreads(1)
    names = list(list_images(options.root))
    chosen = np.unique(np.linspace(0, len(names) - 1, options.faces).astype(int))
    pictures = [read_image(options.root / names[row]) for row in chosen]
    setting = f"one core, {len(pictures)} pictures of {options.root.name}, canvas {CANVAS[0]} x {CANVAS[1]}"
    rows = measure(pictures, options.sizes, setting)
    print(f"{setting}\n\n{table(rows)}")
    if options.json:
        write(options.json, rows, load)


if __name__ == "__main__":
    main()
