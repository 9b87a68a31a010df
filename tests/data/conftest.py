"""Tiny releases in their exact on-disk layout, and full-size tables with the releases' published counts."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shared_folders import shared_folder

from mtmsa_lightning.data.face_table import FaceTable, ReadReport, make_frame
from mtmsa_lightning.labels import RACES

MORPH_TABLE = "MORPH_2008_nonCommercial.csv"
MORPH_HEADER = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
MORPH_GROUPS = {
    "WM": 7_961, "WF": 2_598, "BM": 36_832, "BF": 5_757, "HM": 1_667, "HF": 102,
    "AM": 141, "AF": 13, "OM": 44, "OF": 19,
}  # fmt: skip
MORPH_SUBJECTS = 13_617

ADIENCE_HEADER = (
    "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
).replace(" ", "\t")


@pytest.fixture(scope="session")
def touch() -> Callable[[Path, Iterable[str]], None]:
    """Write placeholder images; each contains its path, so that contents differ."""

    def write(root: Path, paths: Iterable[str]) -> None:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)

    return write


@pytest.fixture
def face_table() -> Callable[..., FaceTable]:
    """Return a table of n faces; missing columns are unknown, ages count up from 20."""

    def make(n: int, race_classes: tuple[str, ...] = RACES, **columns: Any) -> FaceTable:
        path = [f"{index:05d}.jpg" for index in range(n)]
        ages = 20 + np.arange(n) % 50
        rows = pd.DataFrame({"id": path, "path": path, "age_low": ages, "age_high": ages, **columns})
        extra = [name for name in ("content",) if name in columns]
        report = ReadReport("made", read=n)
        return FaceTable(make_frame(rows, "made", extra), Path(), "made", "made up", race_classes, report)

    return make


@pytest.fixture(scope="session")
def full_morph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """MORPH's table with its true counts of images, subjects, races and genders; its photos as a list."""
    root = shared_folder(tmp_path_factory, "full_morph", _write_full_morph)
    lines = (root / MORPH_TABLE).read_text().splitlines()[1:]
    return root, [line.rpartition(",")[2] for line in lines]


def _write_full_morph(root: Path) -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(list(MORPH_GROUPS), list(MORPH_GROUPS.values()))
    n = len(group)
    subjects_of = {name: max(1, round(size * MORPH_SUBJECTS / n)) for name, size in MORPH_GROUPS.items()}
    subjects_of["BM"] += MORPH_SUBJECTS - sum(subjects_of.values())
    subject, start = np.empty(n, int), 1
    for name, size in MORPH_GROUPS.items():
        number = subjects_of[name]
        drawn = np.concatenate([np.arange(number), rng.integers(0, number, size - number)])
        subject[group == name] = start + drawn
        start += number
    picture = pd.Series(subject).groupby(subject).cumcount().to_numpy()
    first_age = np.clip(rng.normal(31, 11, start), 16, 70).astype(int)
    age = first_age[subject] + picture // 3
    lines = [MORPH_HEADER]
    for s, p, g, a in zip(subject, picture, group, age, strict=True):
        photo = f"Album2/{s:06d}_{p}{g[1]}{a:02d}.JPG"
        diff = "" if p == 0 else str(p * 120)
        lines.append(f"{s},{p},01/02/{2000 - a},03/04/2000,{g[0]},{g[1]},,{a},{diff},,{photo}")
    (root / "Album2").mkdir()
    (root / MORPH_TABLE).write_text("\n".join(lines) + "\n")


def _adience_rows() -> pd.DataFrame:
    """19,487 rows: counts by age, gender, fold and repetition as published.

    The counts of the 17 single ages and five odd groups are chosen so that both label rules keep as many
    rows as in the release.
    """
    groups = ["(0, 2)", "(4, 6)", "(8, 12)", "(15, 20)", "(25, 32)", "(38, 43)", "(48, 53)", "(60, 100)"]
    canonical = np.repeat(groups, [2519, 2163, 2132, 1655, 4950, 2300, 830, 875])
    others = np.repeat(
        ["None", "35", "13", "22", "34", "23", "45", "55", "36", "57", "3", "29", "58", "2", "32", "56",
         "42", "46", "(27, 32)", "(25, 23)", "(38, 42)", "(38, 48)", "(8, 23)"],
        [753, 293, 168, 149, 105, 96, 88, 76, 56, 24, 18, 11, 5, 3, 8, 5, 3, 2, 77, 70, 46, 6, 1],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rng.shuffle(canonical)
    rng.shuffle(others)
    known = np.repeat(["f", "m"], [9411, 8192])
    blank = np.repeat(["u", ""], [1100, 784])
    rng.shuffle(known)
    rng.shuffle(blank)
    rows = pd.DataFrame(
        {
            "age": np.concatenate([canonical, others]),
            "gender": np.concatenate([known[:16_258], blank[:1166], known[16_258:], blank[1166:]]),
            "fold": np.concatenate(
                [
                    np.repeat(range(5), [4316, 3101, 3339, 2975, 3693]),
                    np.repeat(range(5), [180, 644, 614, 484, 141]),
                ]
            ),
        }
    )
    number = rows.groupby("fold").cumcount()
    faces = rows["fold"].map({0: 457, 1: 457, 2: 457, 3: 457, 4: 456})
    rows["face_id"] = rows["fold"] * 457 + number % faces + 1
    rows["user_id"] = [f"{face}@N0{face % 10}" for face in rows["fold"] * 100 + number % faces % 33]
    rows["original_image"] = [f"{index}_o.jpg" for index in range(len(rows))]
    return _repeat(_repeat(rows, "(25, 32)", 114), "None", 3)


def _repeat(rows: pd.DataFrame, age: str, times: int) -> pd.DataFrame:
    """Turn rows into repeats of others with the same labels."""
    chosen = rows[(rows["age"] == age) & (rows["fold"] == 1) & (rows["gender"] == "f")].index
    identity = ["user_id", "face_id", "original_image"]
    rows.loc[chosen[times : 2 * times], identity] = rows.loc[chosen[:times], identity].to_numpy()
    return rows


@pytest.fixture(scope="session")
def full_adience(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adience with all of its 19,487 rows and a placeholder for each of its 19,370 files."""
    return shared_folder(tmp_path_factory, "full_adience", _write_full_adience)


def _write_full_adience(root: Path) -> None:
    rows = _adience_rows()
    for fold, part in rows.groupby("fold"):
        lines = [
            f"{row.user_id}\t{row.original_image}\t{row.face_id}\t{row.age}\t{row.gender}\t1\t2\t3\t4\t0\t0\t9"
            for row in part.itertuples()
        ]
        (root / f"fold_{fold}_data.txt").write_text("\n".join([ADIENCE_HEADER, *lines]) + "\n")
    for user in rows["user_id"].unique():
        (root / "aligned" / user).mkdir(parents=True)
    for row in rows.itertuples():
        name = f"landmark_aligned_face.{row.face_id}.{row.original_image}"
        (root / "aligned" / row.user_id / name).touch()
