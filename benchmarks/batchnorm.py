"""Effect of SyncBatchNorm: statistics per device or over all devices, by the number of faces per device.

torch's SyncBatchNorm runs on GPUs only. Here a step on d devices with b faces each is simulated by one pass
of d x b faces in which every BatchNorm computes its statistics over all of them (as SyncBatchNorm does) or
over each device's b faces (as DistributedDataParallel does without it; the running averages are those of the
first device). Gradients are those of the joined batch.

    python benchmarks/batchnorm.py --json batchnorm.json

Synthetic faces at 64 pixels, the same global batch and seeds for all; metrics of the validation part.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import processor
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from mtmsa_lightning import MTMSA, MSAConfig, Synthetic
from mtmsa_lightning.training.callbacks.checkpoints import StepSeed
from mtmsa_lightning.training.callbacks.run_record import git_commit, versions

METRICS = ("val/age_mae", "val/age_nll", "val/gender_acc", "val/loss")


class BatchNormPerDevice(nn.BatchNorm2d):
    """BatchNorm of a batch that is divided among devices, with separate statistics for each."""

    devices = 1

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps, shape (N, C, height, width)."""
        if not self.training:
            return super().forward(maps)
        first, *others = maps.tensor_split(self.devices)
        own = [batch_norm(part, None, None, self.weight, self.bias, True, eps=self.eps) for part in others]
        return torch.cat([super().forward(first), *own])


def spread(model: nn.Module, devices: int) -> None:
    """Make every BatchNorm compute its statistics per device."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNormPerDevice
            module.devices = devices  # type: ignore[assignment]


def train(data: Synthetic, devices: int, seed: int, epochs: int) -> dict[str, float]:
    """Train from scratch and return the metrics of the last validation."""
    seed_everything(seed, verbose=False)
    model = MTMSA(msa=MSAConfig((1, 2, 3), (1, 2)), image_size=64, race_classes=data.race_classes)
    spread(model, devices)
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, callbacks=[StepSeed(seed)], gradient_clip_val=5.0,
    )  # fmt: skip
    trainer.fit(model, data)
    return {name: float(trainer.callback_metrics[name]) for name in METRICS}


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Effect of SyncBatchNorm on small batches per device.")
    parser.add_argument("--faces", type=int, default=700, help="synthetic faces")
    parser.add_argument("--global_batch", type=int, default=16, help="faces per step")
    parser.add_argument("--per_device", type=int, nargs="+", default=[2, 4, 8], help="faces per device")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="also write setting and measurements to this file")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    variants = {"joined (SyncBatchNorm)": 1}
    variants |= {f"{b} faces per device": options.global_batch // b for b in sorted(options.per_device)[::-1]}
    record: dict[str, Any] = {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": versions(), "commit": git_commit(),
        "setting": {name: value for name, value in vars(options).items() if name != "json"},
        "runs": {name: [] for name in variants},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data = Synthetic(
            root=folder, n_faces=options.faces, image_size=64, batch_size=options.global_batch, num_workers=0
        )
        for seed in options.seeds:
            for name, devices in variants.items():
                start = time.perf_counter()
                found = train(data, devices, seed, options.epochs)
                record["runs"][name].append(found)
                print(f"seed {seed}  {name:24}", found, f"{time.perf_counter() - start:.0f} s", flush=True)
                if options.json:
                    options.json.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{'statistics':24} " + " ".join(f"{name.removeprefix('val/'):>18}" for name in METRICS))
    for name, runs in record["runs"].items():
        print(f"{name:24} " + " ".join(_shown([run[metric] for run in runs]) for metric in METRICS))


def _shown(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):10.3f} ± {spread:5.3f}"


if __name__ == "__main__":
    main()
