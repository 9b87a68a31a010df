"""Measure the speed of `mtmsa predict` on photos, and the time of its steps.

Photos of 1280 x 960 pixels show one to four portraits each (scikit-image's astronaut, by NASA, in the public
domain) on a coloured background. The network is the full one at 224 px with random weights, on the CPU.

It measures the processor time of each step of one photo in one thread, then whole predictions with 1, 2 and 4
reading threads in turns, repeated (compare wall-clock time on an idle machine, processor time on a busy one).
A prediction of a prepared set with as many faces shows the time without decoding and detection.

    python benchmarks/prediction.py --json prediction.json
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from common import Row, heading, record, table, write

from mtmsa_lightning import MTMSA, AgeEstimator
from mtmsa_lightning._utils.images import Image, read_image
from mtmsa_lightning.cli.commands.prepare import main as prepare
from mtmsa_lightning.inference.bulk import Job, predict_parts
from mtmsa_lightning.inference.inputs import Inputs, find_inputs
from mtmsa_lightning.inference.prediction_parts import PART_SIZE, Parts
from mtmsa_lightning.labels import RACES

THREADS = (1, 2, 4)
MARGIN = 0.25
PORTRAIT = skimage.data.astronaut()[0:230, 110:340]


def photo(rng: np.random.Generator, width: int = 1280, height: int = 960) -> Image:
    ground = cv2.resize(rng.integers(60, 200, (12, 16, 3), np.uint8), (width, height))
    for cell in rng.permutation(20)[: rng.integers(1, 5)].tolist():
        side = int(rng.integers(130, 225))
        x, y = cell % 5 * 250 + 5, cell // 5 * 235 + 5
        ground[y : y + side, x : x + side] = cv2.resize(PORTRAIT, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(ground, np.uint8)


def write_photos(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(number):
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), photo(rng)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


def network() -> AgeEstimator:
    model = MTMSA(race_classes=RACES)
    assert model.age is not None
    model.age.set_age_statistics(33.0, 17.0)
    crop = {"margin": MARGIN, "size": 256, "detector": {}}
    model.provenance = {"dataset": "any", "preparation": {"crop": crop}}
    return AgeEstimator(model, "cpu")


def steps(estimator: AgeEstimator, files: list[Path]) -> list[Row]:
    """Return the processor time of each step in ms; of the network per face in full batches."""
    photos = [read_image(file) for file in files]
    detector = estimator._load_detector()
    crops = [crop for file in files for crop in estimator.crops(file)]
    batches = [crops[start : start + 64] for start in range(0, len(crops) - 63, 64)] or [crops]
    cut = [_each(estimator.crops, photos), _each(detector, photos)]
    times = {
        "decode": _each(read_image, files),
        "find faces": cut[1],
        "find, align and crop faces": cut[0],
        "network, per face": [time / len(batches[0]) for time in _each(estimator.output, batches)],
    }
    setting = f"one photo, {torch.get_num_threads()} threads"
    return [
        Row.of(f"prediction/{name}", values, "ms of processor time", "less", setting)
        for name, values in times.items()
    ] + [Row("prediction/faces per photo", len(crops) / len(files), "faces", None, setting)]


def _each(work: Callable[[Any], object], items: list[Any]) -> list[float]:
    times = []
    for item in items:
        start = time.process_time()
        work(item)
        times.append(1000 * (time.process_time() - start))
    return times


def predict(estimator: AgeEstimator, inputs: Inputs, threads: int) -> tuple[float, float, int]:
    """Return wall and processor seconds, and the number of faces, of one whole prediction."""
    plan = {"inputs": {"images": len(inputs)}, "part_size": PART_SIZE, "shard": None}
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(Path(folder), plan)
        start, used = time.perf_counter(), time.process_time()
        predict_parts(estimator, Job(inputs, parts, True, None, threads), parts.numbers, lambda _: None)
        wall, used = time.perf_counter() - start, time.process_time() - used
        return wall, used, sum(len(parts.read(number)) for number in parts.numbers)


def measure(root: Path, repeats: int) -> list[Row]:
    estimator = network()
    photos, prepared = find_inputs([root / "photos"]), find_inputs([root / "set"])
    files = [Path(each.file) for each in photos]
    rows = steps(estimator, files[:32])
    runs = {f"photos, {threads} readers": (photos, threads) for threads in THREADS}
    runs["prepared set, 2 readers"] = prepared, 2
    measured: dict[str, list[tuple[float, float, int]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (inputs, threads) in runs.items():
            measured[name].append(predict(estimator, inputs, threads))
    for name, (inputs, _) in runs.items():
        setting = f"{len(inputs)} images, {torch.get_num_threads()} threads of the network"
        wall, used, faces = zip(*measured[name], strict=True)
        images_by_clock = [len(inputs) / each for each in wall]
        faces_by_clock = [n / each for n, each in zip(faces, wall, strict=True)]
        milliseconds = [1000 * each / len(inputs) for each in used]
        name = f"prediction/{name}"
        rows += [
            Row.of(f"{name}, images by the clock", images_by_clock, "1/s", "more", setting),
            Row.of(f"{name}, faces by the clock", faces_by_clock, "1/s", "more", setting),
            Row.of(f"{name}, processor time", milliseconds, "ms per image", "less", setting),
        ]
    return rows


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        write_photos(root / "photos", options.photos)
        prepare(["--data", "folder", "--root", str(root / "photos"), "--out", str(root / "set")])
        rows = measure(root, options.repeats)
    print(f"{heading(record(rows, load))}\n\n{table(rows)}")
    if options.json:
        write(options.json, rows, load)


if __name__ == "__main__":
    main()
