"""Published counts of the releases, for comparison with a copy.

Sources: the tables, lists or file names of the releases themselves. UTKFace and AFAD have no table, and their
copies on the web differ by some files.
"""

from typing import NamedTuple

import pandas as pd

from mtmsa_lightning.data.face_table import SPLITS, FaceTable
from mtmsa_lightning.data.prepared.format import is_synthetic, preparation
from mtmsa_lightning.labels import GENDERS

_MORPH = {
    "faces": 55_134, "subjects": 13_617,
    "black": 42_589, "white": 10_559, "hispanic": 1_769, "asian": 154, "other": 63,
    "male": 46_645, "female": 8_489,
}  # fmt: skip
_CLAP = {"rows read": 7_591, "faces": 7_591, "train": 4_113, "val": 1_500, "test": 1_978}
_IMDB_CLEAN = {"rows read": 285_946, "faces": 285_946, "train": 183_887}
_FAIRFACE = {"rows read": 97_698, "faces": 97_698, "train": 86_744, "test": 10_954}
_CANONICAL = {
    "faces": 17_424, "fold 0": 4_316, "fold 1": 3_101, "fold 2": 3_339, "fold 3": 2_975, "fold 4": 3_693,
}  # fmt: skip

PUBLISHED: dict[str, dict[str, int]] = {
    "morph table columns": _MORPH,
    "adience canonical": {"rows read": 19_487, **_CANONICAL},
    "adience extended": {"rows read": 19_487, "faces": 18_550},
    "utkface file names": {"faces": 23_705},
    "agedb file names": {"faces": 16_488, "subjects": 567, "male": 9_788, "female": 6_700},
    "fgnet file names": {"faces": 1_002, "subjects": 82},
    "clap2016 apparent age, rounded": _CLAP,
    "appa_real apparent age, rounded": _CLAP,
    "appa_real real age": _CLAP,
    "imdb+wiki face score from 1, one face, age to 100": {"rows read": 523_051},
    "imdb face score from 1, one face, age to 100": {"rows read": 460_723},
    "imdb_clean cropped": _IMDB_CLEAN,
    "imdb_clean original, margin 0.4": _IMDB_CLEAN,
    "cacd2000 file names": {"faces": 163_446, "subjects": 2_000},
    "cacd2000 file names, parts by rank": {
        "faces": 163_446,
        "subjects": 2_000,
        "train": 145_275,
        "val": 7_600,
        "test": 10_571,
    },
    "afad full folder names": {"faces": 165_000},
    "lagenda face boxes, margin 0.2": {"rows read": 347_509},
    "all_age_faces file names": {"faces": 13_322, "female": 7_381, "male": 5_941},
    "megaage_asian lists": {"faces": 43_945, "train": 40_000, "test": 3_945},
    "fairface margin025": _FAIRFACE,
    "fairface margin125": _FAIRFACE,
    "wiki face score from 1, one face, age to 100": {"rows read": 62_328},
}
"""Counts by label rule and by what is counted."""

ABOUT = {"utkface file names": 0.01, "afad full folder names": 0.01}
"""Allowed relative difference, for releases whose copies differ."""


class Comparison(NamedTuple):
    """A count of a table and the published one."""

    what: str
    found: int
    published: int
    agrees: bool


def compare(table: FaceTable) -> list[Comparison]:
    """Compare a table's counts with the published release.

    Returns:
        Comparisons; empty for a cleaned table, which has another label rule, and for synthetic faces.
    """
    expected = {} if is_synthetic(table.root) else PUBLISHED.get(table.label_rule, {})
    counted = _counts(table)
    slack = ABOUT.get(table.label_rule, 0.0)
    return [
        Comparison(what, counted[what], number, abs(counted[what] - number) <= slack * number)
        for what, number in expected.items()
    ]


def _counts(table: FaceTable) -> dict[str, int]:
    faces, made = table.frame, preparation(table.root) or {}
    read = int(made.get("release", {}).get("read", table.report.read))  # of the release, also if prepared
    numbers = {"faces": len(faces), "rows read": read, "subjects": faces["subject"].nunique()}
    for names, column in ((GENDERS, "gender"), (table.race_classes, "race")):
        numbers |= dict(zip(names, _tally(faces[column], len(names)), strict=True))
    numbers |= {split: int((faces["split"] == split).sum()) for split in SPLITS}
    return numbers | {f"fold {fold}": number for fold, number in enumerate(_tally(faces["fold"], 5))}


def _tally(indices: "pd.Series[int]", classes: int) -> list[int]:
    return [int((indices == index).sum()) for index in range(classes)]
