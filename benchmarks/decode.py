"""Compare the speed of three JPEG decoders on one core.

The files are synthetic (smooth noise, quality 90) and in the page cache, so that no disk is measured. Every
repeat times all decoders in a rotating order; ratios are taken within a repeat, so that changes of the
machine's speed cancel.

    python benchmarks/decode.py --images 64 --repeats 9 --json decode.json
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.features
import torch
import torchvision
from common import Row, processor, write
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from mtmsa_lightning._utils.images import read_image

SIZES = ((200, 240), (400, 480), (816, 816))
"""Width and height: the first two are those of MORPH's photos, the last of Adience's aligned faces."""

QUALITY = 90


def by_pillow(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def by_torchvision(path: Path) -> Any:
    return decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)


DECODERS: dict[str, Callable[[Path], Any]] = {
    "Pillow": by_pillow,
    "torchvision": by_torchvision,
    "OpenCV (read_image)": read_image,
}


def write_images(folder: Path, width: int, height: int, number: int) -> list[Path]:
    rng = np.random.default_rng([width, height])
    paths = [folder / f"{width}x{height}_{index}.jpg" for index in range(number)]
    for path in paths:
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(smooth).save(path, quality=QUALITY)
    return paths


def images_per_second(decode: Callable[[Path], Any], paths: Sequence[Path]) -> float:
    start = time.perf_counter()
    for path in paths:
        decode(path)
    return len(paths) / (time.perf_counter() - start)


def compare(paths: Sequence[Path], repeats: int) -> dict[str, list[float]]:
    """Return images per second of every decoder in every repeat, after one warm-up repeat."""
    names = list(DECODERS)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            speed = images_per_second(DECODERS[name], paths)
            if repeat:
                speeds[name].append(speed)
    return speeds


def summary(speeds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return each decoder's median speed, and median and extremes of its ratio to Pillow's."""
    rows = {}
    for name, values in speeds.items():
        ratios = [value / pillow for value, pillow in zip(values, speeds["Pillow"], strict=True)]
        rows[name] = {
            "images_per_s": statistics.median(values),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
    return rows


def rows_of(record: dict[str, Any]) -> list[Row]:
    """Return the rows of all sizes: speeds, and ratios to Pillow's."""
    details = record["setting"]
    setting = f"one core, {details['images']} made-up photos, quality {details['quality']}"
    rows = []
    for size, of_size in record["sizes"].items():
        for name, each in of_size["decoders"].items():
            prefix = f"decode/{size}/{name}"
            rows.append(Row(prefix, each["images_per_s"], "images/s", "more", setting))
            if name != "Pillow":
                spread = each["ratio_min"], each["ratio_max"]
                rows.append(Row(f"{prefix}, ratio", each["ratio"], "x Pillow", "more", setting, *spread))
    return rows


def setting(images: int, repeats: int) -> dict[str, Any]:
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": 1,
        "images": images,
        "repeats": repeats,
        "quality": QUALITY,
        "python": platform.python_version(),
        "pillow": f"{PIL.__version__} (libjpeg-turbo {PIL.features.version('libjpeg_turbo')})",
        "torchvision": torchvision.__version__,
        "opencv": f"{cv2.__version__} ({opencv_jpeg()})",
    }


def opencv_jpeg() -> str:
    lines = [line.split() for line in cv2.getBuildInformation().splitlines()]
    return next((" ".join(line[1:]) for line in lines if line[:1] == ["JPEG:"]), "unknown JPEG library")


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare the speed of three JPEG decoders on one core.")
    parser.add_argument("--images", type=int, default=64, help="files per size")
    parser.add_argument("--repeats", type=int, default=9, help="timed repeats per size")
    parser.add_argument("--json", type=Path, help="also write setting and measurements to this file")
    options = parser.parse_args(args)

    load = os.getloadavg()[0]
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    record: dict[str, Any] = {"setting": setting(options.images, options.repeats), "sizes": {}}
    for key, value in record["setting"].items():
        print(f"{key:12} {value}")
    print(f"\n{'size':9} {'kB':>4}  {'decoder':20} {'images/s':>9} {'ratio to Pillow (min-max)':>26}")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            paths = write_images(Path(folder), width, height, options.images)
            kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1000
            rows = summary(compare(paths, options.repeats))
            record["sizes"][f"{width}x{height}"] = {"kilobytes": kilobytes, "decoders": rows}
            for name, row in rows.items():
                spread = f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
                speed = row["images_per_s"]
                print(f"{width}x{height:<5} {kilobytes:4.0f}  {name:20} {speed:9.0f} {spread:>26}")
    if options.json:
        write(options.json, rows_of(record), load, record)


if __name__ == "__main__":
    main()
