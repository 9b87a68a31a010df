"""Synthetic releases: drawn faces in the exact layouts of real releases, irregular rows included."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.data.synthetic.drawing import draw_face
from mtmsa_lightning.data.synthetic.subjects import Subject, draw_subject
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUPS, GENDERS
from mtmsa_lightning.labels import SYNTHETIC_RECORD as RECORD
from mtmsa_lightning.settings.defaults import SYNTHETIC_FACES, SYNTHETIC_SIDE

GENERATOR = 2
"""Version of the drawings; increase it if the same seed gives other faces."""

MORPH_COLUMNS = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
MORPH_RACES = {"black": ("B", 0.62), "white": ("W", 0.26), "hispanic": ("H", 0.07), "asian": ("A", 0.03),
               "other": ("O", 0.02)}  # fmt: skip
ADIENCE_COLUMNS = (
    "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
)
UTKFACE_RACES = ("white", "black", "asian", "indian", "other")


@dataclass(frozen=True)
class Picture:
    """One image to draw, and its files, relative to the root."""

    subject: Subject
    age: float
    seed: int
    files: tuple[str, ...]


Plan = tuple[list[Picture], dict[str, str]]
"""Images to draw, and text files by name."""


def write_morph(
    root: str | Path,
    n_faces: int = SYNTHETIC_FACES,
    seed: int = 0,
    size: int = SYNTHETIC_SIDE,
    workers: int | None = None,
) -> None:
    """Write a tree in MORPH Album II's layout: the CSV table and ``Album2/000001_0M25.JPG``.

    Ages lie between 16 and 77 years as in the release, but have a larger spread (mean 39, standard deviation
    14), so that short trainings show an effect. Most faces are Black or White, less unevenly than in the
    release. One file name disagrees with its row's gender, and one subject has two birth dates and races.

    Args:
        root: Folder to create; an existing equal tree is kept.
        n_faces: Number of images.
        seed: Random seed.
        size: Side of the images in pixels.
        workers: Number of threads; by default one per core.

    Raises:
        DataError: If ``root`` holds something else.
    """
    _write(root, "morph", _plan_morph, n_faces, seed, size, workers)


def write_adience(
    root: str | Path,
    n_faces: int = SYNTHETIC_FACES,
    seed: int = 0,
    size: int = SYNTHETIC_SIDE,
    workers: int | None = None,
) -> None:
    """Write a tree in Adience's layout: five fold files, ``aligned/`` and ``faces/``.

    Labels are the release's age groups, with some single ages, irregular groups, ``None``, unknown genders
    and repeated rows, all consistent with the drawn age.
    Images of the release have 816 pixels. Arguments and errors are those of :func:`write_morph`.
    """
    _write(root, "adience", _plan_adience, n_faces, seed, size, workers)


def write_utkface(
    root: str | Path,
    n_faces: int = SYNTHETIC_FACES,
    seed: int = 0,
    size: int = SYNTHETIC_SIDE,
    workers: int | None = None,
) -> None:
    """Write a tree in UTKFace's layout: ``<age>_<gender>_<race>_<timestamp>.jpg.chip.jpg``.

    One name lacks a field, one the dot before jpg, three files have exact copies, one under another age.
    Arguments and errors are those of :func:`write_morph`.
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
    """Write a tree to a temporary folder and rename it when it is complete."""
    root = Path(root)
    record = {"generator": GENERATOR, "layout": layout, "n_faces": n_faces, "seed": seed, "size": size}
    if n_faces < 10:
        raise DataError(f"n_faces {n_faces}: a synthetic release needs at least 10 faces")
    if _is_there(root, record):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.with_name(f".{root.name}.partial-{uuid4().hex}")  # process ids repeat across machines
    pictures, texts = plan(n_faces, seed)
    try:
        _draw(pictures, partial, size, workers)
        for name, text in {**texts, RECORD: to_json(record) + "\n"}.items():
            (partial / name).write_text(text, encoding="utf-8", newline="\n")
        if root.is_dir():
            root.rmdir()  # empty, as checked
        partial.rename(root)
    except OSError:
        if not _is_there(root, record):  # else another process has written the same tree
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_there(root: Path, record: dict[str, Any]) -> bool:
    """Return whether the same tree exists; raise an error for any other contents."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = from_json(read_regular(root / RECORD))
    except (OSError, ValueError):
        raise DataError(f"{root}: holds something that is not synthetic faces: choose a new folder") from None
    if found != record:
        raise DataError(
            f"{root}: holds synthetic faces made with other settings ({found}, asked for {record}): "
            "choose a new folder, or remove that one"
        )
    return True


def _draw(pictures: Sequence[Picture], root: Path, size: int, workers: int | None) -> None:
    """Draw all images in threads; each depends on its own seed only."""
    for folder in {(root / name).parent for picture in pictures for name in picture.files}:
        folder.mkdir(parents=True, exist_ok=True)

    def write(picture: Picture) -> None:
        image = draw_face(picture.subject, picture.age, picture.seed, size)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
        for name in picture.files:
            (root / name).write_bytes(data)

    with _opencv_on_one_core(), ThreadPoolExecutor(workers or available_cores()) as pool:
        list(pool.map(write, pictures))


@contextmanager
def _opencv_on_one_core() -> Iterator[None]:
    """Turn off OpenCV's own threads, which slow down small masks."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


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
        # the first two have irregular rows
        visits = 2 if number <= 2 else min(int(rng.geometric(0.26)), 12, n_faces // 5)
        born, days = _morph_dates(rng, min(visits, n_faces - len(pictures)))
        for position, taken in enumerate(days):
            gap = (taken - days[position - 1]).days if position else ""
            row, photo, age = _morph_row(person, number, position, born, taken, gap)
            lines.append(row)
            pictures.append(Picture(person, age + float(rng.random()), int(rng.integers(2**31)), (photo,)))
    return pictures, {"morph_2008_nonCommercial.csv": "\n".join(lines) + "\n"}


def _morph_row(
    person: Subject, number: int, position: int, born: date, taken: date, gap: int | str
) -> tuple[str, str, int]:
    """Return the line of the table, the photo and the age; two subjects have irregular rows."""
    race, letter = MORPH_RACES[person.race][0], person.gender[0].upper()
    in_name = letter
    if (number, position) == (1, 1):  # a subject with contradicting labels
        born, race = born - timedelta(days=40), "W" if race == "O" else "O"
    elif (number, position) == (2, 0):
        in_name = {"M": "F", "F": "M"}[letter]
    age = _completed_years(born, taken)
    photo = f"Album2/{number:06d}_{position}{in_name}{age}.JPG"
    dates = f"{born:%m/%d/%Y},{taken:%m/%d/%Y}"
    return f"{number},{position},{dates},{race},{letter},,{age},{gap},,{photo}", photo, age


def _morph_dates(rng: np.random.Generator, visits: int) -> tuple[date, list[date]]:
    """Return a subject's birth date and the sorted dates of the images, at 16 to 77 years of age."""
    age = float(16 + 58 * rng.beta(1.2, 1.9))
    days = [date(2003, 1, 1) + timedelta(days=int(rng.integers(0, 600)))]
    born = days[0] - timedelta(days=round(age * 365.25) + 2)
    for _ in range(visits - 1):
        days.append(days[-1] + timedelta(days=int(rng.integers(30, 300))))
    return born, [day for day in days if _completed_years(born, day) <= 77]


def _completed_years(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


# ---------------------------------------------------------------------------- Adience

ADIENCE_SINGLE_AGES = (("2", "3"), (), ("13",), ("22",), ("23", "29", "34", "35"), ("36", "42", "45"),
                       ("46", "55", "56"), ("57", "58"))  # fmt: skip
"""Single ages in the release in place of a group, by group."""
ADIENCE_ODD_GROUPS = ((), (), ("(8, 23)",), (), ("(27, 32)", "(25, 23)"), ("(38, 42)", "(38, 48)"), (), ())
"""Irregular groups in the release in place of a group, by group."""


def _plan_adience(n_faces: int, seed: int) -> Plan:
    pictures: list[Picture] = []
    folds: list[list[str]] = [[] for _ in range(5)]
    face_id = 0
    while len(pictures) < n_faces:
        face_id += 1
        rng = np.random.default_rng([seed, face_id, 2])
        person = draw_subject(rng, GENDERS[int(rng.random() < 0.53)], str(rng.choice(UTKFACE_RACES)))
        group = int(rng.choice(8, p=[0.14, 0.13, 0.13, 0.1, 0.26, 0.13, 0.05, 0.06]))
        fold = face_id % 5
        user = f"{30000000 + face_id // 15 * 5 + fold}@N0{fold}"
        many = min(int(rng.geometric(0.2)), max(1, n_faces // 10))
        for number in range(len(pictures), min(len(pictures) + many, n_faces)):
            original = f"{int(rng.integers(10**9, 10**10))}_{int(rng.integers(16**9)):010x}_o.jpg"
            low, high = AGE_GROUPS[group]
            age = float(rng.uniform(low, min(high, 89) + 1))
            files = (
                f"aligned/{user}/landmark_aligned_face.{face_id}.{original}",
                f"faces/{user}/coarse_tilt_aligned_face.{face_id}.{original}",
            )
            pictures.append(Picture(person, age, int(rng.integers(2**31)), files))
            label, gender = _adience_labels(person, group, number, rng)
            box = [*rng.integers(100, 900, 4).tolist(), 0, 0, int(rng.integers(20, 200))]
            row = "\t".join(map(str, [user, original, face_id, label, gender, *box]))
            folds[fold] += [row] * (2 if number % 100 == 4 else 1)
    header = ADIENCE_COLUMNS.replace(" ", "\t")
    return pictures, {f"fold_{k}_data.txt": "\n".join([header, *rows]) + "\n" for k, rows in enumerate(folds)}


def _adience_labels(person: Subject, group: int, number: int, rng: np.random.Generator) -> tuple[str, str]:
    """Return the texts of age and gender; about 1 in 25 lacks either, fewer have an irregular group."""
    low, high = AGE_GROUPS[group]
    others = {0: ("None",), 1: ADIENCE_SINGLE_AGES[group], 3: ADIENCE_ODD_GROUPS[group]}.get(number % 25, ())
    label = str(rng.choice(others)) if others else f"({low}, {high})"
    infant = group == 0 and rng.random() < 0.4
    return label, "" if number % 25 == 2 else "u" if infant else person.gender[0]


# ---------------------------------------------------------------------------- UTKFace


def _plan_utkface(n_faces: int, seed: int) -> Plan:
    pictures: list[Picture] = []
    for number in range(n_faces):
        rng = np.random.default_rng([seed, number, 3])
        gender, race = int(rng.random() < 0.48), int(rng.choice(5, p=[0.42, 0.19, 0.15, 0.17, 0.07]))
        age = float(np.clip(rng.gamma(3.0, 11.5), 0, 90))
        stamp = 20170110000000000 + number * 1000 + int(rng.integers(1000))
        names = _utkface_names(number, int(age), gender, race, stamp)
        person = draw_subject(rng, GENDERS[gender], UTKFACE_RACES[race])
        pictures.append(Picture(person, age, int(rng.integers(2**31)), names))
    return pictures, {}


def _utkface_names(number: int, age: int, gender: int, race: int, stamp: int) -> tuple[str, ...]:
    """Return the paths of one image; the first few have the irregular names of the release."""
    usual = f"UTKFace/{age}_{gender}_{race}_{stamp}.jpg.chip.jpg"
    if number == 1:
        return (f"UTKFace/{age}_{gender}_{stamp}.jpg.chip.jpg",)  # no race
    if number == 2:
        return (usual.replace(".jpg.chip", "jpg.chip"),)  # no dot before jpg
    if number in (3, 4, 5):  # exact copies, the last under another age
        return usual, f"UTKFace/{age + 5 * (number == 5)}_{gender}_{race}_{stamp + 10**12}.jpg.chip.jpg"
    return (usual,)
