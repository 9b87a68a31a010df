"""Compare exported files with PyTorch on the test part of a checkpoint's run.

    python benchmarks/export.py RUN best.onnx best-fp16.onnx best-int8.onnx [--faces 1200]

Prints size, mean absolute error of age and accuracy of gender of PyTorch and of each file, on the same faces.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from mtmsa_lightning import MTMSA
from mtmsa_lightning.export import onnx_file, torch_program
from mtmsa_lightning.export.parity import runner_of
from mtmsa_lightning.runs.checkpoints import checkpoint_file
from mtmsa_lightning.training.calibrating import datamodule_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("files", nargs="+", type=Path, help=".onnx and .pt2, exported with --dynamic true")
    parser.add_argument("--faces", type=int, default=10_000, help="largest number of faces")
    options = parser.parse_args()
    checkpoint = str(checkpoint_file(options.run))
    data = datamodule_of(checkpoint, [])
    data.prepare_data()
    data.setup("test")
    faces = [data.test_dataset[row] for row in range(min(options.faces, len(data.test_dataset)))]
    images = torch.from_numpy(np.stack([face["image"] for face in faces])).permute(0, 3, 1, 2).contiguous()
    ages = np.array([(face["age_low"] + face["age_high"]) / 2 for face in faces])
    genders = np.array([face["gender"] for face in faces])
    runners = {"PyTorch": runner_of(MTMSA.load(checkpoint))}
    for file in options.files:
        open_file = torch_program.runner if file.suffix == ".pt2" else onnx_file.runner
        runners[f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)"] = open_file(file)
    print(f"{len(faces)} test faces")
    for name, run in runners.items():
        parts = [run(batch.numpy()) for batch in images.split(32)]
        age, gender = (np.concatenate([part[key] for part in parts]) for key in ("age_mean", "gender_probs"))
        error, right = np.abs(age - ages).mean(), (gender.argmax(1) == genders).mean()
        print(f"{name}: age MAE {error:.4f} years, gender accuracy {100 * right:.2f} %")


if __name__ == "__main__":
    main()
