"""Balanced against uniform sampling on real faces: MAE, plain and averaged over decades, by seed.

    python benchmarks/sampling.py utkface.tar --out benchmarks/recorded/sampling.json

Both samplers train the same initial networks on the same faces, as often in total. The parts are drawn once;
a seed determines initial weights, order and augmentation. The network of the last epoch is tested.
"""

import argparse
import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd
import torch
from common import Row, table, write
from lightning.pytorch import Trainer, seed_everything

from mtmsa_lightning import MTMSA, UTKFace

SAMPLERS = ("uniform", "balanced")
METRICS = {"age_mae": "MAE", "age_balanced_mae": "MAE, mean of the decades"}


def extract(archive: Path, folder: Path) -> None:
    """Extract the images of an archive."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def split_file(root: Path, train: int, test: int) -> Path:
    """Write a random list of training, validation (a tenth of ``train``) and test faces."""
    ids = UTKFace(root=str(root), protocol="whole", num_workers=0).table.frame["id"].to_numpy()
    drawn = np.random.default_rng(0).permutation(ids)[: train + test]
    parts = np.repeat(["train", "val", "test"], [train - train // 10, train // 10, len(drawn) - train])
    file = root / "split.csv"
    pd.DataFrame({"id": drawn, "split": parts}).to_csv(file, index=False)
    return file


def measure(root: Path, split: Path, sampler: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train and test one network; return its metrics."""
    seed_everything(seed, verbose=False)
    data = UTKFace(
        root=str(root), protocol="predefined", split_file=str(split), image_size=args.size, batch_size=16,
        num_workers=0, seed=seed, sampler=sampler, balance_strength=args.strength,
    )  # fmt: skip
    data.prepare_data()
    model = MTMSA(msa=None, image_size=args.size, race_classes=data.race_classes)
    trainer = Trainer(
        max_epochs=args.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, data)
    (found,) = trainer.test(model, data, verbose=False)
    return {name: float(found[f"test/{name}"]) for name in METRICS}


def rows_of(found: dict[str, list[dict[str, float]]], setting: str) -> list[Row]:
    """Return the median of every metric and sampler over the seeds."""
    return [
        Row.of(f"sampling/{sampler}/{title}", [each[name] for each in runs], "years", "less", setting)
        for name, title in METRICS.items()
        for sampler, runs in found.items()
        if runs
    ]


def main(args: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive", type=Path, help="tar file of images with UTKFace's names")
    parser.add_argument("--train", type=int, default=1000, help="training and validation faces")
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(args)
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    setting = (
        f"UTKFace, {given.train} faces for training and validation, {given.test} for test, {given.size} px, "
        f"{given.epochs} epochs, batch 16, strength {given.strength:g}, smoothing 2 years, no attention, no "
        f"pretraining, augmentation light, seeds {given.seeds}, one thread"
    )
    found: dict[str, list[dict[str, float]]] = {sampler: [] for sampler in SAMPLERS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        extract(given.archive, root)
        split = split_file(root, given.train, given.test)
        for seed in given.seeds:
            for sampler in SAMPLERS:
                found[sampler].append(measure(root, split, sampler, seed, given))
                print(seed, sampler, found[sampler][-1], flush=True)
                if given.out:  # after every network, in case that the next one is interrupted
                    write(given.out, rows_of(found, setting), load, found)
    print(f"\n{setting}\n{table(rows_of(found, setting))}")
    for sampler, runs in found.items():
        for name, title in METRICS.items():
            values = [each[name] for each in runs]
            spread = stdev(values) if len(values) > 1 else 0.0
            print(f"{sampler}: {title} {mean(values):.2f} ± {spread:.2f} years")


if __name__ == "__main__":
    main()
