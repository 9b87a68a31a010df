"""Work of the processes in ``test_distributed``, whose metrics must equal those of a single process.

``main`` is what each process runs.
"""

import hashlib
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer

from mtmsa_lightning import MTMSA, FaceCSV
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.errors import Preempted
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.table_metrics import compute_metrics
from mtmsa_lightning.optim.schedulers import WarmupCosine
from mtmsa_lightning.training.callbacks.checkpoints import AtomicCheckpointIO, LastCheckpoint, StepSeed
from mtmsa_lightning.training.callbacks.ema import EMA
from mtmsa_lightning.training.callbacks.logged_plots import panels
from mtmsa_lightning.training.callbacks.prediction_writer import PredictionWriter
from mtmsa_lightning.training.callbacks.preemption import Preemption

SIZES = {"train": 25, "val": 11, "test": 83}
"""None is divisible by 2 or 3."""

HEADS = ("CoralAgeHead",)
"""In addition to the Gaussian head, which is calibrated."""
QUIET = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu",
    "enable_model_summary": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0,
}  # fmt: skip


def write_faces(root: Path) -> None:
    """Write a table of small pictures: exact ages (one decade has enough for a metric) and some groups."""
    rows, pixels = [], np.random.default_rng(0)
    for part, size in SIZES.items():
        for index in range(size):
            name = f"{part}-{index:02d}.png"
            cv2.imwrite(str(root / name), pixels.integers(0, 255, (64, 64, 3), np.uint8))
            low, high = (25, 32) if index % 25 == 0 else (30 + index % 10,) * 2
            gender, race = ("" if part == "train" else "mf"[index % 2]), ("white", "black")[index % 7 % 2]
            rows.append((name, low, high, gender, race, part))
    names = ["path", "age_low", "age_high", "gender", "race", "split"]
    pd.DataFrame(rows, columns=names).to_csv(root / "faces.csv", index=False)


class PatchyFaces(FaceCSV):
    """Remove labels: validation and test faces of rank 3 of 3 have no age, those of rank 2 no class.

    One training face has a race, none a gender: most batches lack a task, and one head is not trained.
    """

    def read(self) -> Any:
        table = super().read()
        frame = table.frame
        for part in ("val", "test"):
            rows = frame.index[frame["split"] == part]
            frame.loc[rows[2::3], ["age_low", "age_high"]] = np.nan
            frame.loc[rows[1::3], ["gender", "race"]] = -1
        frame.loc[frame.index[frame["split"] == "train"][1:], "race"] = -1
        return table


def faces(root: Path, batch_size: int = 8) -> PatchyFaces:
    return PatchyFaces(
        root=str(root), protocol="predefined", race_classes=("white", "black"), image_size=64,
        batch_size=batch_size, num_workers=0, age_groups="adience",
    )  # fmt: skip


def build(head: str = "GaussianAgeHead", **settings: Any) -> MTMSA:
    """Return a model, the same in every process."""
    torch.manual_seed(0)
    dropout = {"class_path": f"mtmsa_lightning.{head}", "init_args": {"dropout": 0.2}}
    model = MTMSA(msa=None, age=dropout, image_size=64, race_classes=("white", "black"), **settings)
    model.age.set_age_statistics(33.0, 4.0)
    return model


def trainer(ranks: int, root: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    parallel = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {"devices": 1}
    where = {"default_root_dir": root, "plugins": [AtomicCheckpointIO()]}
    return Trainer(callbacks=[*callbacks], **(QUIET | settings), **parallel, **where)


# ------------------------------------------------------------------ metrics


def evaluate(ranks: int, folder: Path, out: Path) -> dict[str, dict[str, float]]:
    """Validate and test models with several heads, one calibrated; write and return their metrics."""
    metrics = {}
    for head in (*HEADS, "calibrated"):
        model = build("GaussianAgeHead" if head == "calibrated" else head)
        if head == "calibrated":
            quantiles = {0.5: 0.7, 0.8: 1.2, 0.9: 1.9, 0.95: 2.5}
            model.calibration = Calibration(1.7, {"gender": 2.0, "race": 0.5}, quantiles, max_width=9.0)
        writer = PredictionWriter(out / f"{head}.parquet")
        run = trainer(ranks, out, writer, precision="64-true")
        data = faces(folder)
        (tested,) = run.test(model, data, verbose=False)
        (validated,) = run.validate(model, data, verbose=False)
        metrics[head] = tested | validated
    return metrics


def draw_alone(out: Path) -> int:
    """Compute the content of a report and of W&B in one process."""
    predictions = read_predictions(pd.read_parquet(out / "calibrated.parquet"))
    return len(compute_metrics(predictions)) + len(panels(predictions))


# ------------------------------------------------------------------ training


class Watch(Callback):
    """Records validated values, their metrics, and the training faces."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ids: list[str] = []

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, *_: Any) -> None:
        self.ids += [name for name, counted in zip(batch["id"], batch["valid"], strict=True) if counted]

    def on_validation_batch_start(self, trainer: Any, model: Any, batch: Any, index: int, *_: Any) -> None:
        if index == 0 and trainer.is_global_zero:  # averaged weights, and the statistics of this process
            torch.save(model.state_dict(), self.out / "validated.pt")

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name}
        (self.out / f"val{trainer.global_rank}.json").write_text(json.dumps(metrics))


class SignalAt(Callback):
    """Sends SIGUSR1 to the second process in the middle of training."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)


def fit(
    ranks: int, folder: Path, out: Path, *more: Callback, ckpt_path: Path | None = None, **settings: Any
) -> dict[str, Any]:
    """Train with learned weights, interval losses and averaged weights; return the final state of a rank."""
    out.mkdir(exist_ok=True)
    watch, average = Watch(out), EMA(0.9)
    schedule = partial(WarmupCosine, total_steps=4)  # of the whole epoch, where max_steps are fewer
    model = build(weighting="learned", scheduler=schedule)
    model = model.double()  # not by Trainer(precision=...), which restores in float32
    callbacks = (average, StepSeed(5), watch, *more, Preemption(out / "last.ckpt"))
    run = trainer(ranks, out, *callbacks, max_epochs=1, **settings)
    run.fit(model, faces(folder, batch_size=2), ckpt_path=ckpt_path, weights_only=True)
    return {
        "ids": watch.ids,
        "averaged": dict(model.named_parameters()),  # copied into the model at the end
        "optimizer": run.optimizers[0].state_dict()["state"],
        "logged": {name: float(value) for name, value in run.callback_metrics.items()},
    }


def train(ranks: int, rank: int, folder: Path, out: Path) -> None:
    """Train without a stop, and stopped in two ways and continued; write the final state of a rank."""
    whole = fit(ranks, folder, out / "whole")
    start = dict(build(weighting="learned").named_parameters())
    moved = [name for name, value in whole["averaged"].items() if (value != start[name]).any()]
    write(out / f"whole{rank}.json", whole, moved=moved)
    last = LastCheckpoint()
    last.dirpath = str(out / "limited")
    limited = {"max_steps": 3, "enable_checkpointing": True}
    go_on(ranks, rank, folder, out, "signalled", whole, SignalAt(1))
    go_on(ranks, rank, folder, out, "limited", whole, last, **limited)


def go_on(
    ranks: int, rank: int, folder: Path, out: Path, name: str, whole: dict[str, Any], stopper: Callback,
    **settings: Any,
) -> None:  # fmt: skip
    """Train until it stops within the epoch, continue, and write the difference from a run without a stop."""
    status = None
    try:
        fit(ranks, folder, out / name, stopper, **settings)
    except Preempted as stop:
        status = stop.status
    saved = torch.load(out / name / "last.ckpt", weights_only=True)
    ended = fit(ranks, folder, out / name, ckpt_path=out / name / "last.ckpt")
    apart = {
        "averaged": max(
            distance(value, whole["averaged"][name]) for name, value in ended["averaged"].items()
        ),
        "optimizer": max(
            distance(value, whole["optimizer"][place][name])
            for place, state in ended["optimizer"].items()
            for name, value in state.items()
        ),
    }
    write(out / f"{name}{rank}.json", ended, status=status, batches=saved["PatchyFaces"], apart=apart)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.double() - other.double()).abs().max().item()


def write(file: Path, ended: dict[str, Any], **more: Any) -> None:
    weights = {name: value.detach().numpy().tobytes() for name, value in ended["averaged"].items()}
    digests = {name: hashlib.sha256(value).hexdigest() for name, value in weights.items()}
    kept = {"ids": ended["ids"], "logged": ended["logged"], "averaged": digests}
    file.write_text(json.dumps(kept | more))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    out = folder / "out"
    out.mkdir(exist_ok=True)
    metrics = evaluate(ranks, folder, out)
    if rank == 0:
        (out / "metrics.json").write_text(json.dumps({"metrics": metrics, "drawn": draw_alone(out)}))
    torch.distributed.barrier()
    train(ranks, rank, folder, out)
    torch.distributed.destroy_process_group()
