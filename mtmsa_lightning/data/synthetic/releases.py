"""Synthetic faces on disk, in the exact layouts of real releases: tables, names and their dirt included."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mtmsa_lightning.data.synthetic.faces import CANVAS, Subject, draw_face, draw_subject
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUPS, GENDERS

RECORD = "synthetic.json"
GENERATOR = 1
"""Version of the drawings: another one draws other faces from the same seed."""

MORPH_COLUMNS = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
MORPH_RACES = {"black": ("B", 0.62), "white": ("W", 0.26), "hispanic": ("H", 0.07), "asian": ("A", 0.03),
               "other": ("O", 0.02)}  # fmt: skip
ADIENCE_COLUMNS = (
    "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
)
UTKFACE_RACES = ("white", "black", "asian", "indian", "other")


@dataclass(frozen=True)
class Picture:
    """One picture to draw, and the files it is written to, relative to the root."""

    subject: Subject
    age: float
    seed: int
    files: tuple[str, ...]


Plan = tuple[list[Picture], dict[str, str]]
"""Pictures, and text files by name."""


def write_morph(
    root: str | Path, n_faces: int = 1500, seed: int = 0, size: int = CANVAS, workers: int | None = None
) -> None:
    """Write a tree in MORPH Album II's layout: the CSV table and ``Album2/000001_0M25.JPG``.

    Ages lie between 16 and 77 years as in the release, but are spread wider (mean 39, standard deviation 14),
    so that a short training has something to show. Black and White make up most faces. One name disagrees with its row's gender, and one subject's birth date and race
    differ between pictures.

    Args:
        root: Folder to make; an equal one that is there already is left as it is.
        n_faces: Number of pictures.
        seed: Seed of all draws.
        size: Side of the pictures in pixels.
        workers: Number of threads; by default one per core.

    Raises:
        DataError: If ``root`` holds something else.
    """
    _write(root, "morph", _plan_morph, n_faces, seed, size, workers)


def write_adience(
    root: str | Path, n_faces: int = 1500, seed: int = 0, size: int = CANVAS, workers: int | None = None
) -> None:
    """Write a tree in Adience's layout: five fold files, ``aligned/`` and ``faces/``.

    Labels are the release's age groups, with some single ages, odd groups, ``None``, unknown genders and
    repeated rows.

    Args:
        root: Folder to make; an equal one that is there already is left as it is.
        n_faces: Number of pictures.
        seed: Seed of all draws.
        size: Side of the pictures in pixels (816 in the release).
        workers: Number of threads; by default one per core.

    Raises:
        DataError: If ``root`` holds something else.
    """
    _write(root, "adience", _plan_adience, n_faces, seed, size, workers)


def write_utkface(
    root: str | Path, n_faces: int = 1500, seed: int = 0, size: int = CANVAS, workers: int | None = None
) -> None:
    """Write a tree in UTKFace's layout: ``<age>_<gender>_<race>_<timestamp>.jpg.chip.jpg``.

    One name lacks a field, one a dot, and some files are exact copies, one of them with another age.

    Args:
        root: Folder to make; an equal one that is there already is left as it is.
        n_faces: Number of pictures.
        seed: Seed of all draws.
        size: Side of the pictures in pixels.
        workers: Number of threads; by default one per core.

    Raises:
        DataError: If ``root`` holds something else.
    """
    _write(root, "utkface", _plan_utkface, n_faces, seed, size, workers)


def _write(
    root: str | Path,
    layout: str,
    plan: Callable[[int, int], Plan],
    n_faces: int,
    seed: int,
    size: int,
    workers: int | None,
) -> None:
    """Write a tree beside its place and rename it: whoever finds it, finds it whole."""
    root = Path(root)
    record = {"generator": GENERATOR, "layout": layout, "n_faces": n_faces, "seed": seed, "size": size}
    if n_faces < 10:
        raise DataError(f"n_faces {n_faces}: a synthetic release needs at least 10 faces")
    if _is_there(root, record):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    pictures, texts = plan(n_faces, seed)
    try:
        _draw(pictures, partial, size, workers)
        for name, text in {**texts, RECORD: json.dumps(record) + "\n"}.items():
            (partial / name).write_text(text)
        if root.is_dir():
            root.rmdir()  # empty, as checked
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_there(root: Path, record: dict[str, Any]) -> bool:
    """Tell whether the same tree stands already; refuse to touch anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    file = root / RECORD
    if not file.is_file():
        raise DataError(f"{root}: holds something that is not synthetic faces: choose a new folder")
    found = json.loads(file.read_text())
    if found != record:
        raise DataError(
            f"{root}: holds synthetic faces made with other settings ({found}, asked for {record}): "
            "choose a new folder, or remove that one"
        )
    return True


def _draw(pictures: Sequence[Picture], root: Path, size: int, workers: int | None) -> None:
    """Draw all pictures in threads (OpenCV and numpy let others run); each depends on its own seed alone."""
    for folder in {(root / name).parent for picture in pictures for name in picture.files}:
        folder.mkdir(parents=True, exist_ok=True)

    def write(picture: Picture) -> None:
        image = draw_face(picture.subject, picture.age, picture.seed, size)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
        for name in picture.files:
            (root / name).write_bytes(data)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        list(pool.map(write, pictures))


# ---------------------------------------------------------------------------- MORPH


def _plan_morph(n_faces: int, seed: int) -> Plan:
    pictures: list[Picture] = []
    lines = [MORPH_COLUMNS]
    names, shares = list(MORPH_RACES), [share for _, share in MORPH_RACES.values()]
    number = 0
    while len(pictures) < n_faces:
        number += 1
        rng = np.random.default_rng([seed, number, 1])
        person = draw_subject(rng, GENDERS[int(rng.random() < 0.3)], str(rng.choice(names, p=shares)))
        visits = _morph_dates(rng)[: n_faces - len(pictures)]
        for position, (born, taken, age) in enumerate(visits):
            letter = "M" if person.gender == "male" else "F"
            race = MORPH_RACES[person.race][0]
            in_name = {"M": "F", "F": "M"}[letter] if (number, position) == (2, 0) else letter
            if (number, position) == (1, 1):  # the noise of the release: a subject that disagrees with itself
                born, race = born + timedelta(days=3), "O"
            photo = f"Album2/{number:06d}_{position}{in_name}{age}.JPG"
            days = (taken - visits[position - 1][1]).days if position else ""
            lines.append(
                f"{number},{position},{_american(born)},{_american(taken)},{race},{letter},,{age},{days},,{photo}"
            )
            exact = age + float(rng.random())
            pictures.append(Picture(person, exact, int(rng.integers(2**31)), (photo,)))
    return pictures, {"morph_2008_nonCommercial.csv": "\n".join(lines) + "\n"}


def _morph_dates(rng: np.random.Generator) -> list[tuple[date, date, int]]:
    """Return (birth date, picture date, completed years) of a subject's pictures, in order of time."""
    age = float(16 + 58 * rng.beta(1.2, 1.9))
    taken = date(2003, 1, 1) + timedelta(days=int(rng.integers(0, 600)))
    born = taken - timedelta(days=round(age * 365.25) + 2)
    dates = [taken]
    for _ in range(int(min(rng.geometric(0.26), 12)) - 1):
        dates.append(dates[-1] + timedelta(days=int(rng.integers(30, 300))))
    return [(born, day, _completed_years(born, day)) for day in dates]


def _completed_years(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _american(day: date) -> str:
    return day.strftime("%m/%d/%Y")


# ---------------------------------------------------------------------------- Adience

ADIENCE_DIRT = ("None", "35", "13", "(38, 42)", "(8, 23)", "(27, 32)", "(25, 23)", "3", "57")


def _plan_adience(n_faces: int, seed: int) -> Plan:
    pictures: list[Picture] = []
    folds: list[list[str]] = [[] for _ in range(5)]
    face_id = 0
    while len(pictures) < n_faces:
        face_id += 1
        rng = np.random.default_rng([seed, face_id, 2])
        person = draw_subject(rng, GENDERS[int(rng.random() < 0.53)], str(rng.choice(UTKFACE_RACES)))
        low, high = AGE_GROUPS[int(rng.choice(8, p=[0.14, 0.13, 0.13, 0.1, 0.26, 0.13, 0.05, 0.06]))]
        fold = face_id % 5
        user = f"{30000000 + face_id // 15 * 5 + fold}@N0{fold}"
        for _ in range(min(int(rng.geometric(0.2)), n_faces - len(pictures))):
            original = f"{int(rng.integers(10**9, 10**10))}_{int(rng.integers(16**9)):010x}_o.jpg"
            age = float(rng.uniform(low, min(high, 88) + 1))
            label = f"({low}, {high})"
            if rng.random() < 0.06:
                label = str(rng.choice(ADIENCE_DIRT))
            gender = rng.choice(["", "u", person.gender[0]], p=[0.04, 0.05, 0.91])
            files = (
                f"aligned/{user}/landmark_aligned_face.{face_id}.{original}",
                f"faces/{user}/coarse_tilt_aligned_face.{face_id}.{original}",
            )
            pictures.append(Picture(person, age, int(rng.integers(2**31)), files))
            box = "\t".join(str(int(value)) for value in rng.integers(100, 900, 4))
            row = (
                f"{user}\t{original}\t{face_id}\t{label}\t{gender}\t{box}\t0\t0\t{int(rng.integers(20, 200))}"
            )
            folds[fold] += [row] * (2 if rng.random() < 0.01 else 1)
    header = ADIENCE_COLUMNS.replace(" ", "\t")
    return pictures, {f"fold_{k}_data.txt": "\n".join([header, *rows]) + "\n" for k, rows in enumerate(folds)}


# ---------------------------------------------------------------------------- UTKFace


def _plan_utkface(n_faces: int, seed: int) -> Plan:
    pictures: list[Picture] = []
    for number in range(n_faces):
        rng = np.random.default_rng([seed, number, 3])
        gender, race = int(rng.random() < 0.48), int(rng.choice(5, p=[0.42, 0.19, 0.15, 0.17, 0.07]))
        age = float(np.clip(rng.gamma(3.0, 11.5), 1, 90))
        stamp = f"{20170110000000000 + number * 1000 + int(rng.integers(1000))}"
        name = f"{int(age)}_{gender}_{race}_{stamp}.jpg.chip.jpg"
        files = [f"UTKFace/{name}"]
        if number == 1:
            files = [f"UTKFace/{int(age)}_{gender}_{stamp}.jpg.chip.jpg"]  # no race
        elif number == 2:
            files = [f"UTKFace/{name.replace('.jpg.chip', '.jpgchip')}"]
        elif number in (3, 4):
            other = int(age) + (5 if number == 4 else 0)
            files.append(f"UTKFace/{other}_{gender}_{race}_{int(stamp) + 10**12}.jpg.chip.jpg")
        person = draw_subject(rng, GENDERS[gender], UTKFACE_RACES[race])
        pictures.append(Picture(person, age, int(rng.integers(2**31)), tuple(files)))
    return pictures, {}
