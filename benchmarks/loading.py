"""Compare the speed of four loaders for training.

(a) Pillow and torchvision on release photos, as in most repositories;
(b) this package on release photos: OpenCV and albumentations;
(c) this package on a prepared store, augmented on the CPU;
(d) this package on a prepared store, augmented on the device that trains.

All four use the same kinds of augmentation with the same probabilities. Every repeat measures all loaders in
a rotating order; ratios are taken within a repeat, so that changes of the machine's speed cancel. Speed is
images per second of processor time of the worker and of the process that receives its batches: the throughput
of one core.

    python benchmarks/loading.py --json loading.json
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import PIL
import torch
import torchvision
from common import Row, processor, write
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mtmsa_lightning._utils.images import central_square, read_image
from mtmsa_lightning.data.augment.cpu import FaceTransform, resize
from mtmsa_lightning.data.augment.device import augment
from mtmsa_lightning.data.augment.params import AugmentationParamSampler
from mtmsa_lightning.data.dataloader import start_worker
from mtmsa_lightning.data.face_dataset import FaceDataset, SampleKey, collate
from mtmsa_lightning.data.prepared.pixels import PIXELS, PixelStore, write_pixels
from mtmsa_lightning.data.release_files import list_images
from mtmsa_lightning.module import MTMSA

WIDTH, HEIGHT = 400, 480  # one of the two sizes of MORPH's photos
CROP = 0.85
STORED = 256
SIZE = 224
LOADERS = {
    "a": "Pillow + torchvision, photos",
    "b": "albumentations, photos",
    "c": "store, augmented on the CPU",
    "d": "store, augmented on the device",
}


# ------------------------------------------------------------------ pictures


def write_photos(folder: Path, number: int) -> list[Path]:
    """Write synthetic photos: smooth noise plus finer, fainter noise; file sizes as of scanned portraits."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(number):
        photo = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
        for cell, contrast in ((80, 60), (16, 25), (4, 8)):
            coarse = rng.standard_normal((HEIGHT // cell, WIDTH // cell, 3)).astype(np.float32)
            photo += contrast * cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        levels = photo.clip(0, 255).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"{index:05d}.jpg", quality=90)
    return sorted(folder.iterdir())


def write_store(folder: Path, photos: Sequence[Path]) -> PixelStore:
    """Prepare the photos: central squares of 256 pixels as files and as a mapped array."""
    names = [f"{index:05d}.jpg" for index in range(len(photos))]
    folder.mkdir()
    for name, photo in zip(names, photos, strict=True):
        crop = resize(central_square(read_image(photo), CROP), STORED)
        Image.fromarray(crop).save(folder / name, quality=95)
    write_pixels(folder, names, STORED)
    return PixelStore(folder / PIXELS, STORED, {name: row for row, name in enumerate(names)})


def table_of(paths: Sequence[Any]) -> pd.DataFrame:
    names = [str(path) for path in paths]
    return pd.DataFrame(
        {"id": names, "path": names, "age_low": 30.0, "age_high": 30.0, "gender": 0, "race": 0}
    )


# ------------------------------------------------------------------ loaders


def plain_transform() -> transforms.Compose:
    """Return torchvision transforms with the kinds and probabilities of this package's augmentation."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, scale=(0.8, 1.0), ratio=(0.9, 1.1)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply(
                [transforms.RandomRotation(10, transforms.InterpolationMode.BILINEAR)], p=0.5
            ),
            transforms.RandomApply([transforms.ColorJitter(0.2, 0.2, 0.2, 0.02)], p=0.5),
            transforms.RandomGrayscale(p=0.05),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


class PlainDataset(Dataset[tuple[Tensor, int]]):
    """The dataset of a typical face repository."""

    def __init__(self, photos: Sequence[Path]) -> None:
        self.photos = photos
        self.transform = plain_transform()

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, int]:
        image = Image.open(self.photos[key.row]).convert("RGB")
        return self.transform(image), 30


def plain_collate(samples: list[tuple[Tensor, int]]) -> dict[str, Any]:
    images, ages = torch.utils.data.default_collate(samples)
    return {"image": images, "age_low": ages.double(), "augmentation": None}


class Report(NamedTuple):
    """A batch, and the resources that its worker had used by then.

    Attributes:
        batch: The batch.
        seconds: Processor time of the worker.
        private: Private memory of the worker in bytes.
    """

    batch: Any
    seconds: float
    private: int


class Reporting:
    """Collates samples and measures the resources used by the process."""

    def __init__(self, join: Callable[[list[Any]], Any], memory: bool = False) -> None:
        self.join = join
        self.memory = memory

    def __call__(self, samples: list[Any]) -> Report:
        """Join samples."""
        batch = self.join(samples)
        return Report(batch, time.process_time(), private_memory() if self.memory else 0)


def private_memory() -> int:
    """Return this process's private memory in bytes, without pages of mapped files; 0 if it is unknown.

    Pages of a mapped file belong to the page cache, whether or not other processes map them.
    """
    rollup = Path("/proc/self/smaps_rollup")
    lines = rollup.read_text().splitlines() if rollup.is_file() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


class Setup(NamedTuple):
    """A dataset, its collate function, and its number of faces."""

    dataset: Dataset[Any]
    join: Callable[[list[Any]], Any]
    faces: int

    def loader(self, batch_size: int, workers: int, memory: bool = False) -> DataLoader[Any]:
        """Yield batches of random faces endlessly."""
        return DataLoader(
            self.dataset,
            batch_size=batch_size,
            sampler=Endless(self.faces),
            num_workers=workers,
            collate_fn=Reporting(self.join, memory),
            worker_init_fn=start_worker,
            pin_memory=torch.cuda.is_available(),
        )


class Endless:
    """Sampler of random rows, without end."""

    def __init__(self, faces: int) -> None:
        self.faces = faces

    def __iter__(self) -> Iterator[SampleKey]:
        rng = random.Random(0)
        return (SampleKey(rng.randrange(self.faces), step) for step in count())


def make_setups(photos: Sequence[Path], store: PixelStore) -> dict[str, Setup]:
    raw, crops, prepared = table_of(photos), table_of(list(store.rows)), store.file.parent
    sampler = AugmentationParamSampler(STORED, SIZE)
    datasets: dict[str, Any] = {
        "a": PlainDataset(photos),
        "b": FaceDataset(raw, Path(), FaceTransform(SIZE, CROP, augment=True)),
        "c": FaceDataset(crops, prepared, FaceTransform(SIZE, augment=True), pixels=store),
        "d": FaceDataset(crops, prepared, FaceTransform(STORED), pixels=store, sampler=sampler),
    }
    joins: dict[str, Callable[[list[Any]], Any]] = {
        "a": plain_collate,
        "b": collate,
        "c": collate,
        "d": collate,
    }
    return {name: Setup(dataset, joins[name], len(photos)) for name, dataset in datasets.items()}


# ------------------------------------------------------------------ speed


class Speed(NamedTuple):
    """Images per second of one worker, by processor time and by wall-clock time."""

    per_core: float
    clock: float


def speed(setup: Setup, seconds: float, batch_size: int) -> Speed:
    batches = iter(setup.loader(batch_size, workers=1))
    first = next(batches)
    start, used = time.perf_counter(), time.process_time()
    for number, report in enumerate(batches, start=1):  # noqa: B007 - both are needed after the loop
        if time.perf_counter() - start > seconds:
            break
    images = number * batch_size
    here = time.process_time() - used
    return Speed(images / (report.seconds - first.seconds + here), images / (time.perf_counter() - start))


def compare(
    setups: dict[str, Setup], repeats: int, seconds: float, batch_size: int
) -> dict[str, list[Speed]]:
    """Return every loader's speed in every repeat."""
    names = list(setups)
    speeds: dict[str, list[Speed]] = {name: [] for name in names}
    for repeat in range(repeats):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            speeds[name].append(speed(setups[name], seconds, batch_size))
    return speeds


def summary(speeds: dict[str, list[Speed]]) -> dict[str, dict[str, float]]:
    """Return each loader's median speeds, and median and extremes of its ratio to (a)."""
    rows = {}
    for name, values in speeds.items():
        ratios = [value.per_core / plain.per_core for value, plain in zip(values, speeds["a"], strict=True)]
        rows[name] = {
            "images_per_core_second": statistics.median(value.per_core for value in values),
            "images_per_second_of_one_worker": statistics.median(value.clock for value in values),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
    return rows


def device_seconds(device: torch.device, batch_size: int, store: PixelStore, repeats: int) -> float:
    """Return the median time in seconds that the device needs to augment one image of a batch."""
    sampler = AugmentationParamSampler(STORED, SIZE)
    images = torch.from_numpy(store.array[:batch_size].copy()).permute(0, 3, 1, 2).to(device)
    times = []
    for repeat in range(repeats + 1):
        draws = np.array([sampler(repeat * batch_size + row) for row in range(len(images))], np.float32)
        synchronise(device)
        start = time.perf_counter()
        augment(images, draws, SIZE)
        synchronise(device)
        times.append((time.perf_counter() - start) / len(images))
    return statistics.median(times[1:])


def peak_memory(setup: Setup, batch_size: int, batches: int = 12) -> int:
    """Return the largest private memory of two workers over some batches, in bytes."""
    loader = iter(setup.loader(batch_size, workers=2, memory=True))
    return max(next(loader).private for _ in range(batches))


# ------------------------------------------------------------------ training


class Training:
    """Training steps of the whole network, with the time spent waiting for batches."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = MTMSA().to(device)
        assert self.model.age is not None
        self.model.age.set_age_statistics(33, 11)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4)

    def waiting(self, loader: DataLoader[Any], steps: int, seconds: float) -> tuple[float, float]:
        """Return the fraction of time spent waiting for batches, and the images trained per second.

        Measured after the batches that were ready when training began, for a number of steps or a time,
        whichever is longer.
        """
        batches = iter(loader)
        for _ in range(1 + loader.num_workers * (loader.prefetch_factor or 0)):
            self.step(next(batches).batch)
        waited, images, begin = 0.0, 0, time.perf_counter()
        while steps > 0 or time.perf_counter() - begin < seconds:
            steps -= 1
            start = time.perf_counter()
            batch = next(batches).batch
            waited += time.perf_counter() - start
            images += len(batch["image"])
            self.step(batch)
        total = time.perf_counter() - begin
        return waited / total, images / total

    def step(self, batch: dict[str, Any]) -> None:
        """Train on a batch and wait for the device."""
        images = batch["image"].to(self.device, non_blocking=True)
        ages = batch["age_low"].to(self.device, non_blocking=True)
        if batch["augmentation"] is not None:
            images = augment(images, batch["augmentation"], SIZE)
        labels = torch.zeros(len(images), dtype=torch.long, device=self.device)
        faces: Any = {"age_low": ages, "age_high": ages, "gender": labels, "race": labels}
        mixed = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            loss = self.model.total_loss(self.model.losses(self.model(images), faces))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        synchronise(self.device)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# ------------------------------------------------------------------ report


def setting(options: argparse.Namespace, photos: Sequence[Path], device: torch.device) -> dict[str, Any]:
    size = statistics.mean(path.stat().st_size for path in photos) / 1000
    name = torch.cuda.get_device_name() if device.type == "cuda" else "the same processor"
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "device": name,
        "load": f"{os.getloadavg()[0]:.1f} before the run",
        "photos": f"{len(photos)} of {size:.0f} kB, {'from ' + options.root if options.root else 'made up'}",
        "output": f"{SIZE} x {SIZE}, batches of {options.batch_size}",
        "repeats": f"{options.repeats} of {options.seconds} s per loader",
        "training": f"{options.steps} steps of {options.step_batch_size}, {options.workers} workers",
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "torch": f"{torch.__version__}, torchvision {torchvision.__version__}",
        "opencv": cv2.__version__,
    }  # fmt: skip


def rows_of(record: dict[str, Any]) -> list[Row]:
    """Return the rows of all loaders."""
    details = record["setting"]
    setting = f"{details['photos']}; {details['output']}, one worker"
    rows = []
    for name, each in record["loaders"].items():
        prefix = f"loading/{LOADERS[name]}"
        rows.append(Row(prefix, each["images_per_core_second"], "images/s per core", "more", setting))
        if name != "a":
            spread = each["ratio_min"], each["ratio_max"]
            rows.append(Row(f"{prefix}, ratio", each["ratio"], f"x {LOADERS['a']}", "more", setting, *spread))
        memory = each["private_megabytes_per_worker"]
        rows.append(Row(f"{prefix}, memory of a worker", memory, "MB", "less", setting))
        if "waiting_share" in each:
            trained = f"{details['device']}, {details['training']}"
            share = 100 * each["waiting_share"]  # near zero: its ratios are meaningless
            rows.append(Row(f"{prefix}, training waits", share, "% of the time", None, trained))
            speed = each["trained_images_per_s"]
            rows.append(Row(f"{prefix}, training", speed, "images/s", "more", trained))
    augmenting = record["device_ms_per_image"]
    rows.append(Row("loading/augmenting on the device", augmenting, "ms/image", "less", details["device"]))
    return rows


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description="Compare the speed of four loaders of faces.")
    parser.add_argument("--root", help="folder of real photos (default: synthetic ones)")
    parser.add_argument("--photos", type=int, default=256, help="number of photos")
    parser.add_argument("--batch_size", type=int, default=64, help="images per batch")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats")
    parser.add_argument("--seconds", type=float, default=1.5, help="duration of one timing")
    parser.add_argument("--steps", type=int, default=4, help="timed training steps per loader; 0 for none")
    batch = 64 if torch.cuda.is_available() else 8
    parser.add_argument("--step_batch_size", type=int, default=batch, help="images per training step")
    parser.add_argument("--workers", type=int, default=cores, help="loader processes of the training")
    parser.add_argument("--json", type=Path, help="also write setting and measurements to this file")
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    load = os.getloadavg()[0]
    cv2.setNumThreads(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        if options.root:
            names = list(list_images(Path(options.root)))[: options.photos]
            photos = [Path(options.root, name) for name in names]
        else:
            photos = write_photos(Path(folder, "photos"), options.photos)
        store = write_store(Path(folder, "store"), photos)
        record: dict[str, Any] = {"setting": setting(options, photos, device)}
        for key, value in record["setting"].items():
            print(f"{key:10} {value}")
        record["loaders"] = measure(make_setups(photos, store), options, device)
        record["device_ms_per_image"] = 1000 * device_seconds(device, options.batch_size, store, 5)
    show(record)
    if options.json:
        write(options.json, rows_of(record), load, record)


def measure(setups: dict[str, Setup], options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    speeds = compare(setups, options.repeats, options.seconds, options.batch_size)
    rows: dict[str, Any] = summary(speeds)
    for name, setup in setups.items():
        rows[name]["private_megabytes_per_worker"] = peak_memory(setup, options.batch_size) / 1e6
    if options.steps:
        training = Training(device)
        for name, setup in setups.items():
            loader = setup.loader(options.step_batch_size, options.workers)
            waiting, trained = training.waiting(loader, options.steps, seconds=5)
            rows[name] |= {"waiting_share": waiting, "trained_images_per_s": trained}
    return rows


def show(record: dict[str, Any]) -> None:
    print(f"\n{'':34} {'images/s':>8} {'ratio to (a)':>19} {'MB per':>7} {'training':>9} {'trained':>9}")
    print(f"{'':34} {'per core':>8} {'(min-max)':>19} {'worker':>7} {'waits':>9} {'images/s':>9}")
    for name, row in record["loaders"].items():
        ratio = f"{row['ratio']:.1f} ({row['ratio_min']:.1f}-{row['ratio_max']:.1f})"
        line = f"({name}) {LOADERS[name]:30} {row['images_per_core_second']:8.0f} {ratio:>19}"
        line += f" {row['private_megabytes_per_worker']:7.0f}"
        if "waiting_share" in row:
            line += f" {row['waiting_share']:9.1%} {row['trained_images_per_s']:9.1f}"
        print(line)
    print(f"\naugmentation on the device, additionally: {record['device_ms_per_image']:.2f} ms per image")


if __name__ == "__main__":
    main()
