"""Three small tables: exact ages, age groups with genders, and races only."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from mtmsa_lightning import FaceCSV

SPLIT = ("train", "train", "val", "test", "train")
AGES = {"exact": lambda i: (20 + i % 30,) * 2, "groups": lambda i: ((0, 2), (25, 32), (38, 43))[i % 3]}
SIZES = {"exact": 31, "groups": 23, "races": 17}
RACES = ("white", "East Asian", "Black")


def write_source(root: Path, name: str, size: int | None = None) -> None:
    """Write a table of pictures of noise; the last digit of a face's number gives its part."""
    (root / name).mkdir(parents=True)
    pixels, rows = np.random.default_rng(sorted(SIZES).index(name)), []
    for i in range(size or SIZES[name]):
        cv2.imwrite(str(root / name / f"{i:03d}.png"), pixels.integers(0, 255, (70, 70, 3), np.uint8))
        low, high = AGES[name](i) if name in AGES else ("", "")
        gender = "mf"[i % 2] if name != "exact" else ""
        race = RACES[i % 3] if name == "races" else ""
        rows.append((f"{i:03d}.png", low, high, gender, race, SPLIT[i % 5], f"s{i // 2}"))
    columns = ["path", "age_low", "age_high", "gender", "race", "split", "subject"]
    pd.DataFrame(rows, columns=columns).to_csv(root / name / "faces.csv", index=False)


def source(root: Path, name: str, **settings: Any) -> FaceCSV:
    groups = {"age_groups": "adience"} if name == "groups" else {}
    return FaceCSV(
        root=str(root / name), dataset_name=name, protocol="predefined", num_workers=0, **groups, **settings
    )
