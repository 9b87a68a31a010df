"""Compare stores for the faces of a prepared set: image files, packed shards, a memory-mapped array.

The faces are those of the folder ``--root``, by default synthetic, and in the page cache. Every repeat reads
the same faces in the same random order (WebDataset: in the order of the file) from all stores, in a rotating
order; speeds are per second of processor time of one process, up to an RGB array. Start-up and memory are
measured on a set of MORPH's size whose array is a sparse file.

    python benchmarks/store.py --root faces --json store.json

LitData and WebDataset are measured if they are installed; the package itself needs neither.
"""

import argparse
import json
import os
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from common import Row, processor, write
from loading import private_memory, write_photos
from PIL import Image

from mtmsa_lightning import MORPH
from mtmsa_lightning._utils.images import central_square, read_image
from mtmsa_lightning.data.augment.cpu import resize
from mtmsa_lightning.data.datasets.morph import RACE_CLASSES
from mtmsa_lightning.data.face_dataset import collate
from mtmsa_lightning.data.face_table import make_frame
from mtmsa_lightning.data.prepared.pixels import PIXELS, fingerprint_of, write_pixels
from mtmsa_lightning.data.release_files import list_images

MORPH_FACES = 55_134
SIZE = 256
QUALITY = 95

Reader = Callable[[Sequence[int]], Iterator[Any]]
"""Yields the decoded faces of rows."""


def write_crops(folder: Path, photos: Sequence[Path]) -> list[str]:
    """Write square crops of 256 pixels as JPEG files."""
    names = [f"crops/{index:05d}.jpg" for index in range(len(photos))]
    (folder / "crops").mkdir()
    for name, photo in zip(names, photos, strict=True):
        image = central_square(read_image(photo), 1.0)
        crop = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(crop if len(image) < SIZE else resize(image, SIZE)).save(
            folder / name, quality=QUALITY
        )
    return names


# ------------------------------------------------------------------ stores


def image_files(folder: Path, names: Sequence[str]) -> Reader:
    return lambda rows: (read_image(folder / names[row]) for row in rows)


def mapped_array(folder: Path, names: Sequence[str]) -> Reader:
    write_pixels(folder, names, SIZE)
    array = np.asarray(np.load(folder / PIXELS, mmap_mode="r"))
    return lambda rows: (array[row].copy() for row in rows)


def decode(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def litdata_shards(folder: Path, names: Sequence[str]) -> Reader:
    import litdata

    shards = folder / "litdata"
    paths = [str(folder / name) for name in names]
    litdata.optimize(read_bytes, paths, str(shards), chunk_bytes="32MB", num_workers=1, verbose=False)
    dataset = litdata.StreamingDataset(str(shards))
    assert len(dataset) == len(names)
    return lambda rows: (decode(dataset[row]) for row in rows)


def webdataset_shards(folder: Path, names: Sequence[str]) -> Reader:
    import webdataset

    shard = folder / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for name in names:
            tar.add(folder / name, Path(name).name)

    def read(rows: Sequence[int]) -> Iterator[Any]:
        dataset = webdataset.WebDataset(str(shard), shardshuffle=False).to_tuple("jpg")
        return (decode(data) for (data,) in islice(dataset, len(rows)))

    return read


STORES: dict[str, tuple[str | None, Callable[[Path, Sequence[str]], Reader]]] = {
    "image files (JPEG)": (None, image_files),
    "LitData shards (JPEG)": ("litdata", litdata_shards),
    "WebDataset tar, in order (JPEG)": ("webdataset", webdataset_shards),
    "mapped array (uint8)": (None, mapped_array),
}


def images_per_second(read: Reader, rows: Sequence[int]) -> float:
    start = time.process_time()
    for _ in read(rows):
        pass
    return len(rows) / (time.process_time() - start)


def compare(readers: dict[str, Reader], faces: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return each store's median speed, and median and extremes of its ratio to image files."""
    names = list(readers)
    files = names[0]
    rows = random.Random(0).sample(range(faces), faces)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            speed = images_per_second(readers[name], rows)
            if repeat:
                speeds[name].append(speed)
    ratios = {
        name: [value / plain for value, plain in zip(speeds[name], speeds[files], strict=True)]
        for name in names
    }
    return {
        name: {
            "images_per_core_second": statistics.median(speeds[name]),
            "ratio": statistics.median(ratios[name]),
            "ratio_min": min(ratios[name]),
            "ratio_max": max(ratios[name]),
        }
        for name in names
    }


# ------------------------------------------------------------------ a set of full size


def write_full_set(root: Path) -> None:
    """Write a prepared set of MORPH's size: empty files and a sparse array."""
    (root / "crops").mkdir(parents=True)
    names = [f"crops/{index:06d}.jpg" for index in range(MORPH_FACES)]
    for name in names:
        (root / name).touch()
    shape = (MORPH_FACES, SIZE, SIZE, 3)
    np.lib.format.open_memmap(root / PIXELS, "w+", np.uint8, shape)  # allocates nothing yet
    write_record(root, names)


def write_record(root: Path, names: Sequence[str]) -> None:
    """Write the table of a prepared set like MORPH's, with random labels, and its description."""
    faces = len(names)
    rng = np.random.default_rng(0)
    ages = rng.integers(16, 78, faces)
    rows = pd.DataFrame({"id": names, "path": names, "age_low": ages, "age_high": ages})
    rows["subject"] = [f"{row // 4:06d}" for row in range(faces)]
    rows["gender"], rows["race"] = rng.integers(0, 2, faces), rng.integers(0, 5, faces)
    make_frame(rows, "morph").to_parquet(root / "faces.parquet")
    array = np.load(root / PIXELS, mmap_mode="r")
    pixels = {
        "shape": list(array.shape), "dtype": "uint8", "fingerprint": fingerprint_of(names, array),
    }  # fmt: skip
    record = {
        "format_version": 1, "dataset": "morph", "label_rule": "morph table columns",
        "race_classes": list(RACE_CLASSES), "table": "faces.parquet", "pixels": pixels,
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(record))


def start_up(root: Path) -> dict[str, float]:
    """Return seconds from the DataModule to its datasets, and to the first batch of one worker."""
    start, used = time.perf_counter(), time.process_time()
    data = MORPH(root=str(root), num_workers=1, augment_on="device")
    data.prepare_data()
    data.setup("fit")
    ready, processor_time = time.perf_counter() - start, time.process_time() - used
    next(iter(data.train_dataloader()))
    first = time.perf_counter() - start
    return {"setup_s": ready, "setup_processor_s": processor_time, "first_batch_s": first}


class WithMemory:
    """Collates and measures the private memory of the worker."""

    def __call__(self, samples: list[Any]) -> tuple[int, int]:
        """Return the number of samples and bytes; the batch is built, then dropped."""
        return len(collate(samples)["id"]), private_memory()


def worker_megabytes(root: Path, augment_on: Any, batches: int) -> float:
    """Return the largest private memory of a worker that loads batches of the full set."""
    data = MORPH(root=str(root), num_workers=2, batch_size=64, augment_on=augment_on)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.collate_fn = WithMemory()
    return max(private for _, private in islice(iter(loader), batches)) / 1e6


# ------------------------------------------------------------------ report


def rows_of(record: dict[str, Any]) -> list[Row]:
    """Return the rows of all stores, and of a set of MORPH's size."""
    rows = []
    for name, each in record["stores"].items():
        speed, spread = each["images_per_core_second"], (each["ratio_min"], each["ratio_max"])
        rows.append(Row(f"store/{name}", speed, "images/s per core", "more", record["faces"]))
        rows.append(Row(f"store/{name}, ratio", each["ratio"], "x files", "more", record["faces"], *spread))
    full = f"{MORPH_FACES} faces of {SIZE} px"
    for key, name, unit in (
        ("setup_processor_s", "from arguments to datasets", "s of the processor"),
        ("first_batch_s", "from arguments to the first batch", "s"),
        ("worker_megabytes_cpu", "memory of a worker, augmenting", "MB"),
        ("worker_megabytes_device", "memory of a worker, augmenting on the device", "MB"),
    ):
        rows.append(Row(f"store/{name}", record[key], unit, "less", full))
    return rows


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare stores of prepared faces.")
    parser.add_argument("--root", type=Path, help="folder of real faces (default: synthetic photos)")
    parser.add_argument("--faces", type=int, default=512, help="number of faces")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)
    cv2.setNumThreads(0)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        full = folder / "full"
        write_full_set(full)
        large = min((start_up(full) for _ in range(3)), key=lambda times: times["first_batch_s"])
        for place in ("cpu", "device"):
            large[f"worker_megabytes_{place}"] = worker_megabytes(full, place, batches=40)
        if options.root:
            photos = [options.root / name for name in list(list_images(options.root))[: options.faces]]
        else:
            photos = write_photos(folder / "photos", options.faces)
        names = write_crops(folder, photos)
        kilobytes = statistics.mean((folder / name).stat().st_size for name in names) / 1000
        chosen = {name: make for name, (needs, make) in STORES.items() if not needs or find_spec(needs)}
        readers = {name: make(folder, names) for name, make in chosen.items()}
        record: dict[str, Any] = {
            "machine": f"{processor()}, {os.cpu_count()} cores, load {load:.1f} before the run",
            "faces": f"{len(names)}, {SIZE} pixels, JPEG quality {QUALITY}: {kilobytes:.1f} kB each",
            "morph_gigabytes_jpeg": kilobytes * MORPH_FACES / 1e6,
            "morph_gigabytes_array": SIZE * SIZE * 3 * MORPH_FACES / 1e9,
            **large,
            "stores": compare(readers, len(names), options.repeats),
        }
    show(record)
    if options.json:
        write(options.json, rows_of(record), load, record)


def show(record: dict[str, Any]) -> None:
    for key, value in record.items():
        if key != "stores":
            print(f"{key:24} {f'{value:.2f}' if isinstance(value, float) else value}")
    print(f"\n{'store':34} {'images/s per core':>18} {'ratio to files (min-max)':>26}")
    for name, row in record["stores"].items():
        ratio = f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
        print(f"{name:34} {row['images_per_core_second']:18.0f} {ratio:>26}")


if __name__ == "__main__":
    main()
