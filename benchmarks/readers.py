"""Measure the time to read and split full-size imitations of releases: tables and names, with empty images.

    python benchmarks/readers.py --json readers.json          # IMDB-WIKI has 523,051 rows: minutes to write

Seconds are of processor time. Rows are read with the file system's cache warm, and split by the dataset's
default protocol.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from common import Row, table, write

import mtmsa_lightning
from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.data.splits.split import make_split

RNG = np.random.default_rng(0)


def touch(root: Path, names: Sequence[str]) -> None:
    for folder in {name.rpartition("/")[0] for name in names}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        os.close(os.open(root / name, os.O_CREAT))


def write_imdb_wiki(root: Path, rows: int) -> None:
    """Write both parts; as in the release, four of five people have several photos."""
    for part, size in (("imdb", round(rows * 460_723 / 523_051)), ("wiki", round(rows * 62_328 / 523_051))):
        size = max(size, 10)
        person = RNG.integers(0, max(1, size // 23), size) if part == "imdb" else np.arange(size)
        born = RNG.integers(700_000, 728_000, size)
        names = [
            f"{who % 100:02d}/nm{who:07d}_rm{number}_1960-1-1_2000.jpg"
            if part == "imdb"
            else f"{who % 100:02d}/{who}_1960-01-01_2000.jpg"
            for number, who in enumerate(person)
        ]
        cells = np.empty(size, object)
        cells[:] = names
        score = np.where(RNG.random(size) < 0.1, -np.inf, RNG.uniform(0.5, 6, size))
        fields = {
            "dob": born.astype(float),
            "photo_taken": RNG.integers(1960, 2015, size).astype(float),
            "full_path": cells,
            "gender": RNG.choice([0.0, 1.0, np.nan], size, p=[0.42, 0.56, 0.02]),
            "face_score": score,
            "second_face_score": np.where(RNG.random(size) < 0.5, np.nan, 2.0),
        }
        touch(root / f"{part}_crop", names)
        scipy.io.savemat(root / f"{part}_crop/{part}.mat", {part: fields})


def write_lagenda(root: Path, rows: int) -> None:
    header = "img_name,age,gender,face_x0,face_y0,face_x1,face_y1,person_x0,person_y0,person_x1,person_y1"
    image = np.sort(RNG.integers(0, max(1, rows // 5), rows))
    known = RNG.random(rows) < 0.25
    labels = [
        f"{age},{'MF'[age % 2]}" if has else "-1,-1"
        for age, has in zip(RNG.integers(0, 95, rows), known, strict=True)
    ]
    lines = [
        f"{number}.jpg,{label},10,10,50,50,0,0,90,90" for number, label in zip(image, labels, strict=True)
    ]
    touch(root / "images", [f"{number}.jpg" for number in np.unique(image)])
    (root / "lagenda_annotation.csv").write_text("\n".join([header, *lines]) + "\n")


def write_afad(root: Path, rows: int) -> None:
    ages = RNG.integers(15, 72, rows)
    touch(root / "AFAD-Full", [f"{age}/{111 + age % 2}/{number}-0.jpg" for number, age in enumerate(ages)])


CASES: dict[str, tuple[int, Callable[[Path, int], None]]] = {
    "imdb_wiki": (523_051, write_imdb_wiki),
    "lagenda": (347_509, write_lagenda),
    "afad": (165_000, write_afad),
}
"""Rows of the release, and the function that writes an imitation."""


def measure(name: str, root: Path, repeats: int) -> list[Row]:
    """Return the processor time to read a release, and to split it by its default protocol."""
    reading, splitting = [], []
    for _ in range(repeats):
        data = getattr(mtmsa_lightning, CLASSES[name])(root=str(root), num_workers=0)
        start = time.process_time()
        faces = data.table
        middle = time.process_time()
        make_split(faces, data.protocol)
        reading.append(middle - start)
        splitting.append(time.process_time() - middle)
    rows, kept = faces.report.read, len(faces)
    setting = f"{rows:,} rows, {kept:,} kept, {repeats} repeats"
    return [
        Row.of(f"readers/{name}, read {rows:,} rows", reading, "s", "less", setting),
        Row.of(f"readers/{name}, split {kept:,} faces by {data.protocol}", splitting, "s", "less", setting),
    ]


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fraction", type=float, default=1.0, help="size of the imitations, 1 for full size")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats of each case")
    parser.add_argument("--only", nargs="+", choices=CASES, default=[*CASES], help="datasets (default: all)")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args(args)
    load, rows = os.getloadavg()[0], []
    for name in options.only:
        size, write_release = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            write_release(Path(folder), max(20, round(size * options.fraction)))
            rows += measure(name, Path(folder), options.repeats)
    print(table(rows))
    if options.json:
        write(options.json, rows, load)


if __name__ == "__main__":
    main()
