"""Compare training and evaluation by this package with a bare PyTorch loop.

Parts, selected by ``--parts`` (default: all):

loop        ``mtmsa fit`` on a fixed batch against a bare loop of the same network on the same batch
evaluation  ``mtmsa test``, metrics and predictions included, and ``AgeEstimator``, against the bare loop
store       ``mtmsa fit`` fed by a prepared store against the bare loop on a fixed batch
processes   one training with two threads against two trainings with one thread each (CPU only)

The bare loop has forward pass, losses, backward pass, clipping, optimiser and schedule, without metrics,
logging and callbacks. It runs in the process of the command, alternating with it in segments, so that both
have the same conditions; results are medians over segments. Processor time is that of the process without
loader workers. Ratios are the speed of the command divided by that of the bare loop.

    OMP_NUM_THREADS=1 python benchmarks/loop.py --json loop.json
    python benchmarks/loop.py --device cuda --json loop-gpu.json
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import Row, heading, record, table, write
from lightning.pytorch import Callback, LightningModule, Trainer

from mtmsa_lightning import AgeEstimator
from mtmsa_lightning._utils.devices import best_precision
from mtmsa_lightning.cli.main import main as mtmsa
from mtmsa_lightning.data.face_dataset import FaceBatch, SampleKey, collate
from mtmsa_lightning.data.synthetic import write_morph
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.training.lightning_cli import TrainingCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command

PARTS = ("loop", "evaluation", "store", "processes")


class Times(NamedTuple):
    """Processor and wall-clock seconds of a segment."""

    processor: float
    clock: float


# ------------------------------------------------------------------ the bare loop


class BareLoop:
    """Training steps with a model's network, optimiser and losses only."""

    def __init__(self, of: MTMSA, batch: FaceBatch, device: torch.device, bf16: bool) -> None:
        self.model = MTMSA(**of.hparams).to(device)
        assert self.model.age is not None
        self.model.age.set_age_statistics(33, 11)
        self.batch: Any = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }
        self.bf16 = bf16
        self.optimizer = of.optimizer(self.model.parameter_groups())
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 10_000)

    def __call__(self, steps: int) -> None:
        """Train."""
        for _ in range(steps):
            with torch.autocast(self.batch["image"].device.type, torch.bfloat16, enabled=self.bf16):
                output = self.model(self.batch["image"])
                loss = self.model.total_loss(self.model.losses(output, self.batch))
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
            self.scheduler.step()


class Interleaved(Callback):
    """Runs a segment of the bare loop between segments of a command, and times both.

    Args:
        batch: The batch of the bare loop.
        steps: Steps of a segment.

    Attributes:
        command: Times of the command's segments without the first, a warm-up.
        bare: Times of the bare loop's segments.
    """

    def __init__(self, batch: FaceBatch, steps: int) -> None:
        self.batch, self.steps = batch, steps
        self.loop: BareLoop | None = None
        self.command: list[Times] = []
        self.bare: list[Times] = []
        self.start: Times | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new segment: time between epochs does not count."""
        self.start = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """End a segment of the command after ``steps`` steps."""
        self.turn(trainer, pl_module, args[-1])

    on_test_batch_start = on_predict_batch_start = on_train_batch_start  # type: ignore[assignment]

    def turn(self, trainer: Trainer, module: LightningModule, index: int) -> None:
        """End a segment every ``steps`` steps, and run one of the bare loop."""
        if index % self.steps:
            return
        assert isinstance(module, MTMSA)
        device = trainer.strategy.root_device
        now = clocks(device)
        with torch.inference_mode(False), torch.enable_grad():
            if self.loop is None:
                self.loop = BareLoop(module, self.batch, device, "bf16" in str(trainer.precision))
                self.loop(2)
            elif self.start is not None:
                self.command.append(Times(*(end - begin for end, begin in zip(now, self.start, strict=True))))
            self.bare.append(segment(partial(self.loop, 1), self.steps, device))
        self.start = clocks(device)

    def rows(self, name: str, faces: int, setting: str) -> list[Row]:
        """Return the command's speed relative to the bare loop, and in faces per second (wall clock)."""
        command, bare = self.command[1:], self.bare[-len(self.command) :][: len(self.command) - 1]
        pairs = list(zip(command, bare, strict=True))
        by_processor = [two.processor / one.processor for one, two in pairs]
        by_clock = [two.clock / one.clock for one, two in pairs]
        speeds = [self.steps * faces / one.clock for one in command]
        named = (
            (f"loop/{name}", by_processor, "x bare loop"),
            (f"loop/{name} by the clock", by_clock, "x bare loop"),
            (f"loop/{name}, faces by the clock", speeds, "1/s"),
        )
        return [Row.of(row, values, unit, "more", setting) for row, values, unit in named]


def clocks(device: torch.device) -> Times:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Times(time.process_time(), time.perf_counter())


def segment(work: Callable[[], object], steps: int, device: torch.device) -> Times:
    """Return the duration of steps of work."""
    start = clocks(device)
    for _ in range(steps):
        work()
    return Times(*(after - before for before, after in zip(start, clocks(device), strict=True)))


# ------------------------------------------------------------------ commands on fixed batches


class Repeated:
    """A loader that repeats one batch."""

    def __init__(self, batch: FaceBatch, number: int) -> None:
        self.batch, self.number = batch, number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[FaceBatch]:
        return (self.batch for _ in range(self.number))


class MeasuredCLI(TrainingCLI):
    """A command that alternates with the bare loop.

    Args:
        options: Options of this script.
        fixed: Train and test on one batch instead of the loader's batches.
        args: As for :class:`TrainingCLI`.
    """

    def __init__(self, options: argparse.Namespace, fixed: bool, *args: Any) -> None:
        self.options, self.fixed = options, fixed
        super().__init__(*args)

    def instantiate_classes(self) -> None:
        """Build everything, and replace the loaders by the fixed batch."""
        super().instantiate_classes()
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")
        batch = batch_of(self.datamodule, self.options.batch_size)
        number = self.options.steps * (self.options.rounds + 2) + 1
        if self.fixed:
            self.datamodule.train_dataloader = lambda: Repeated(batch, number)
            self.datamodule.test_dataloader = lambda: Repeated(batch, number)
        self.interleaved = Interleaved(batch, self.options.steps)
        self.trainer.callbacks.insert(0, self.interleaved)  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Skip the test."""

    def after_test(self) -> None:
        """Skip the report."""


def batch_of(data: Any, faces: int) -> FaceBatch:
    """Collate training faces in their final size."""
    dataset = data.train_dataset
    batch = collate([dataset[SampleKey(row % len(dataset))] for row in range(faces)])
    batch["index"] = torch.zeros_like(batch["index"])  # a row that every part has
    return data.on_after_batch_transfer(batch, 0)


def fit(
    options: argparse.Namespace, folder: Path, root: Path, fixed: bool, workers: int, epochs: int = 1
) -> MeasuredCLI:
    on_gpu = options.device == "cuda"
    args = [
        f"--data=mtmsa_lightning.{'Synthetic' if fixed else 'MORPH'}", f"--data.root={root}",
        *([f"--data.n_faces={options.faces}"] if fixed else []),
        f"--data.image_size={options.size}", f"--data.batch_size={options.batch_size}",
        f"--data.num_workers={workers}", f"--data.augment_on={'device' if on_gpu else 'cpu'}",
        f"--trainer.accelerator={'gpu' if on_gpu else 'cpu'}", "--trainer.devices=1",
        f"--trainer.max_epochs={epochs}", "--trainer.gradient_clip_val=5",
        "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={folder}", "--wandb=disabled", "--trainer.num_sanity_val_steps=0",
        *options.arguments,
    ]  # fmt: skip
    cli = run_trainer_command("fit", args, partial(MeasuredCLI, options, fixed))
    assert isinstance(cli, MeasuredCLI)
    return cli


def loop_part(options: argparse.Namespace, folder: Path) -> list[Row]:
    interleaved = fit(options, folder, folder / "faces", fixed=True, workers=0).interleaved
    return interleaved.rows("fit", options.batch_size, setting_of(options))


def evaluation_part(options: argparse.Namespace, folder: Path) -> list[Row]:
    trained = fit(argparse.Namespace(**{**vars(options), "rounds": 1}), folder, folder / "faces", True, 0)
    args = [f"--ckpt_path={trained.run}", "--wandb=disabled", "--allow_overlap=true"]
    tested = run_trainer_command("test", args, partial(MeasuredCLI, options, True))
    assert isinstance(tested, MeasuredCLI)
    interleaved = {
        "test": tested.interleaved,
        "AgeEstimator": estimate(options, trained.model, tested.interleaved.batch),
    }
    setting = setting_of(options)
    return [row for name, each in interleaved.items() for row in each.rows(name, options.batch_size, setting)]


def estimate(options: argparse.Namespace, model: MTMSA, batch: FaceBatch) -> Interleaved:
    """Alternate the Python API, on arrays of one face each, with the bare loop."""
    precision = best_precision(options.device)
    device = torch.device(options.device)
    estimator = AgeEstimator(copy.deepcopy(model), device, options.batch_size, precision=precision)
    faces = np.random.default_rng(0).integers(0, 256, (options.batch_size, *2 * [options.size], 3), np.uint8)
    interleaved = Interleaved(batch, options.steps)
    train = BareLoop(model, batch, device, "bf16" in precision)
    train(2)
    for _ in range(options.rounds + 1):
        interleaved.command.append(segment(lambda: estimator(list(faces)), options.steps, device))
        interleaved.bare.append(segment(lambda: train(1), options.steps, device))
    return interleaved


def store_part(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Measure several epochs of a prepared set, relative to the bare loop on a fixed batch."""
    store = folder / "store"
    write_morph(folder / "faces", options.faces)
    size = str(round(options.size * 8 / 7))
    mtmsa(
        ["prepare", "--data", "morph", "--root", str(folder / "faces"), "--out", str(store), "--size", size]
    )
    epochs = 1 + options.rounds * options.steps * options.batch_size // options.faces
    cli = fit(options, folder, store, fixed=False, workers=options.workers, epochs=2 * epochs)
    setting = f"{setting_of(options)}, {options.workers} workers"
    return cli.interleaved.rows("fit from a prepared store", options.batch_size, setting)


# ------------------------------------------------------------------ processes


def processes_part(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Alternate one process of two threads with two of one; total faces per second (wall clock)."""
    speeds: dict[str, list[float]] = {"one process, two threads": [], "two processes, one thread each": []}
    for _ in range(3):
        for name, (number, threads) in zip(speeds, ((1, 2), (2, 1)), strict=True):
            speeds[name].append(together(options, number, threads))
    ratios = [two / one for one, two in zip(*speeds.values(), strict=True)]
    setting = f"training, {options.batch_size} faces of {options.size} px"
    name, unit = "loop/two processes of one thread by the clock", "x one process of two threads"
    return [Row.of(name, ratios, unit, "more", setting)]


def together(options: argparse.Namespace, number: int, threads: int) -> float:
    command = [
        sys.executable,
        __file__,
        "--worker",
        "--batch_size",
        str(options.batch_size),
        "--size",
        str(options.size),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(number)
    ]
    return sum(float(process.communicate()[0]) for process in started)


def worker(options: argparse.Namespace, seconds: float = 12.0) -> float:
    """Train for some seconds and return faces per second (wall clock)."""
    from step import Setting, Training
    from step import batch_of as noise

    device = torch.device("cpu")
    training, batch = (
        Training(Setting(), device, size=options.size),
        noise(options.batch_size, options.size, device),
    )
    training.step(batch), training.step(batch)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        training.step(batch)
        steps += 1
    return steps * options.batch_size / (time.perf_counter() - start)


# ------------------------------------------------------------------ report


def setting_of(options: argparse.Namespace) -> str:
    """Return all that the measurements depend on besides machine and versions."""
    parts = [
        f"{options.batch_size} faces of {options.size} px",
        f"segments of {options.steps} steps",
        options.device,
        f"{torch.get_num_threads()} threads",
        *options.arguments,
    ]
    return ", ".join(parts)


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description="Compare training and evaluation with a bare loop.",
        epilog="Further arguments are those of `mtmsa fit`, e.g. --model.channels_last=true.",
    )
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="cpu or cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--size", type=int, default=224, help="side of a face in pixels")
    parser.add_argument("--batch_size", type=int, default=64 if cuda else 8, help="faces per step")
    parser.add_argument("--rounds", type=int, default=15, help="timed segments")
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, help="steps per segment")
    parser.add_argument("--faces", type=int, default=4096 if cuda else 120, help="faces drawn")
    parser.add_argument("--workers", type=int, default=8 if cuda else 1, help="loader processes of the store")
    parser.add_argument("--json", type=Path, help="also write setting and measurements to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(args)
    options.arguments = rest
    return options


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    if options.worker:
        print(worker(options))
        return
    load = os.getloadavg()[0]
    measure: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
        "loop": loop_part, "evaluation": evaluation_part, "store": store_part, "processes": processes_part,
    }  # fmt: skip
    rows: list[Row] = []
    for part in options.parts:
        if part == "processes" and options.device != "cpu":
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows += measure[part](options, Path(folder))
    print(f"{heading(record(rows, load))}\n\n{table(rows)}")
    if options.json:
        write(options.json, rows, load)


if __name__ == "__main__":
    main()
