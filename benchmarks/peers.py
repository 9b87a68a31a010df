"""Compare this package with a plain training script and with ONNX Runtime.

training    torchvision's ResNet34 with one output and an L1 loss, fed by ImageFolder and torchvision's
            transforms from photos (ages are names of folders), in a loop of ten lines; compared with
            `Trainer.fit` of MTMSA with all heads, attention and metrics, on a prepared store of the same
            photos, and the same without attention
inference   the same MTMSA network in PyTorch, in evaluation mode, and exported in ONNX Runtime

Each training runs one epoch, in a rotating order. Speed is faces per second of processor time of the process
and its loaders, and of wall-clock time, including the start of the Trainer. On a GPU both train in bfloat16.

    python benchmarks/peers.py --json peers.json
"""

import argparse
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
import torchvision
from common import Row, heading, record, table, write
from lightning.pytorch import Trainer
from loading import SIZE, STORED, plain_transform, write_photos
from store import write_crops, write_record
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from mtmsa_lightning import MORPH, MTMSA, MSAConfig
from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.devices import best_precision, choose_accelerator
from mtmsa_lightning.data.prepared.pixels import write_pixels

AGES = range(16, 78)
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


class Speed(NamedTuple):
    """Faces per second of processor time and of wall-clock time."""

    per_core: float
    clock: float


def timed(work: Callable[[], int]) -> Speed:
    """Return the speed of a training function, which returns its number of faces."""
    start, used = time.perf_counter(), all_seconds()
    faces = work()
    if GPU:
        torch.cuda.synchronize()
    return Speed(faces / (all_seconds() - used), faces / (time.perf_counter() - start))


def all_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# ------------------------------------------------------------------ training


def plain_script(folder: Path, batch_size: int, workers: int) -> Callable[[], int]:
    """Return one epoch of a typical training script."""
    dataset = ImageFolder(str(folder), plain_transform())
    ages = torch.tensor([float(name) for name in dataset.classes], device=DEVICE)
    model = torchvision.models.resnet34(num_classes=1).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4)

    def epoch() -> int:
        loader = DataLoader(
            dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True, pin_memory=GPU
        )
        model.train()
        for images, classes in loader:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=GPU):
                predicted = model(images.to(DEVICE, non_blocking=True)).squeeze(1)
            loss = nn.functional.l1_loss(predicted.float(), ages[classes])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return len(loader) * batch_size

    return epoch


def ours(root: Path, batch_size: int, workers: int, msa: MSAConfig | None) -> Callable[[], int]:
    """Return one epoch of this package on a prepared store."""
    data = MORPH(
        root=str(root), protocol="train_all", batch_size=batch_size, num_workers=workers,
        augment_on="device" if GPU else "cpu",
    )  # fmt: skip
    model = MTMSA(msa=msa, race_classes=data.race_classes, channels_last=GPU)

    def epoch() -> int:
        trainer = Trainer(
            max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False, devices=1,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            accelerator="gpu" if GPU else "cpu", precision=best_precision(choose_accelerator("auto")),  # type: ignore[arg-type]
        )  # fmt: skip
        trainer.fit(model, datamodule=data)
        return trainer.global_step * batch_size

    return epoch


def training_rows(faces: int, batch_size: int, repeats: int) -> list[Row]:
    workers = available_cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = write_photos(folder / "photos", faces)
        for number, photo in enumerate(photos):
            place = folder / "by_age" / str(AGES[number % len(AGES)])
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, place)
        names = write_crops(folder, photos)
        write_pixels(folder, names, STORED)
        write_record(folder, names)
        ways = {
            "torchvision script, photos": plain_script(folder / "by_age", batch_size, workers),
            "mtmsa without attention, store": ours(folder, batch_size, workers, None),
            "mtmsa, store": ours(folder, batch_size, workers, MSAConfig()),
        }
        speeds: dict[str, list[Speed]] = {name: [] for name in ways}
        for repeat in range(repeats + 1):
            for name in [*ways][repeat % len(ways) :] + [*ways][: repeat % len(ways)]:
                speed = timed(ways[name])
                if repeat:
                    speeds[name].append(speed)
    setting = f"{SIZE} px, batches of {batch_size}, {faces} photos, {workers} workers, {device_name()}"
    return [row for name in ways for row in rows_of(name, speeds, setting)]


def device_name() -> str:
    """Return the trainings to compare."""
    return torch.cuda.get_device_name() if GPU else f"{torch.get_num_threads()} threads"


def rows_of(name: str, speeds: dict[str, list[Speed]], setting: str) -> list[Row]:
    """Return the rows of one training, with ratios to the first one."""
    values, plain = speeds[name], next(iter(speeds.values()))
    prefix = f"peers/training/{name}"
    rows = [
        Row.of(f"{prefix}, by the clock", [each.clock for each in values], "faces/s", "more", setting),
        Row.of(f"{prefix}, per core", [each.per_core for each in values], "faces/s", "more", setting),
    ]
    if values is not plain:
        kinds = {"by the clock": "clock", "per core": "per_core"}
        kind = "by the clock" if GPU else "per core"
        pairs = zip(values, plain, strict=True)
        ratios = [getattr(one, kinds[kind]) / getattr(other, kinds[kind]) for one, other in pairs]
        rows.append(Row.of(f"{prefix}, ratio {kind}", ratios, "x script", "more", setting))
    return rows


# ------------------------------------------------------------------ inference


def runners(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """Return the functions that predict on the CPU: PyTorch, and ONNX Runtime if it is installed."""
    from mtmsa_lightning.export import onnx_file
    from mtmsa_lightning.export.formats import Precision
    from mtmsa_lightning.export.metadata import describe_export
    from mtmsa_lightning.export.network import ExportNetwork, named_outputs, traced
    from mtmsa_lightning.export.parity import runner_of

    model = MTMSA(race_classes=("white", "black", "asian")).eval()
    assert model.age is not None
    model.age.set_age_statistics(33, 11)
    ways: dict[str, Callable[[Any], Any]] = {"PyTorch": runner_of(model)}
    if find_spec("onnxruntime") and find_spec("onnx") and find_spec("onnxscript"):
        names = tuple(named_outputs(model, torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)))
        metadata = describe_export(model, names, Precision.FP32, dynamic=True)
        onnx_file.write(traced(ExportNetwork(model), True), folder / "network.onnx", names, metadata)
        ways["ONNX Runtime"] = onnx_file.runner(folder / "network.onnx", torch.get_num_threads())
    return ways


def inference_rows(repeats: int, batch_sizes: Sequence[int]) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ways = runners(Path(folder))
        for size in batch_sizes:
            faces = torch.randint(0, 256, (size, 3, SIZE, SIZE), dtype=torch.uint8).numpy()
            speeds: dict[str, list[float]] = {name: [] for name in ways}
            for repeat in range(repeats + 1):
                for name, predict in ways.items():
                    start = time.process_time()
                    for _ in range(calls := max(1, 8 // size)):
                        predict(faces)
                    speed = calls * size / (time.process_time() - start)
                    if repeat:
                        speeds[name].append(speed)
            setting = f"{SIZE} px, batches of {size}, {torch.get_num_threads()} threads, CPU"
            for name, values in speeds.items():
                prefix = f"peers/inference/{name}, batch {size}"
                rows.append(Row.of(f"{prefix}, per core", values, "faces/s", "more", setting))
                if name != "PyTorch":
                    ratios = [one / other for one, other in zip(values, speeds["PyTorch"], strict=True)]
                    rows.append(Row.of(f"{prefix}, ratio", ratios, "x PyTorch", None, setting))
    return rows


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare with a plain training script and ONNX Runtime.")
    parser.add_argument("--faces", type=int, default=4096 if GPU else 48, help="photos of an epoch")
    parser.add_argument("--batch_size", type=int, default=64 if GPU else 8, help="faces per training step")
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs; 0 for no training")
    parser.add_argument("--inference", type=int, default=5, help="timed rounds of prediction; 0 for none")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 16], help="faces per prediction")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)
    cv2.setNumThreads(0)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "mtmsa_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    load = os.getloadavg()[0]
    rows = training_rows(options.faces, options.batch_size, options.repeats) if options.repeats else []
    rows += inference_rows(options.inference, options.batch_sizes) if options.inference else []
    print(f"{heading(record(rows, load))}\n\n{table(rows)}")
    if options.json:
        write(options.json, rows, load)


if __name__ == "__main__":
    main()
