"""MORPH Album II, the non-commercial release of 2008: 55,134 mug shots of 13,617 subjects, ages 16 to 77."""

from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, make_frame, parse_ages, parse_words
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.release_files import (
    expected_tree_error,
    find_file,
    has_folder,
    list_images,
    locate,
    read_delimited,
)

TABLE = "morph_2008_nonCommercial.csv"
FILES = (TABLE,)
PHOTOS = "Album2"
TREE = f"""
<root>/
  {TABLE}
  {PHOTOS}/
    000001_0M25.JPG
    ...
"""
RACE_CLASSES: tuple[str, ...] = ("white", "black", "asian", "hispanic", "other")

_COLUMNS = ("id_num", "picture_num", "dob", "doa", "race", "gender", "age", "photo")
_RACES = {"w": 0, "b": 1, "a": 2, "h": 3, "o": 4}
_GENDERS = {"m": 0, "f": 1}
_NAME = r"(?i)^Album2/(?P<subject>[0-9]{6})_[0-9]{1,2}(?P<gender>[MF])(?P<age>[0-9]{2})\.JPG$"


def read_morph(root: str | Path, strict: bool = False) -> FaceTable:
    """Read MORPH Album II from its table; file names are only compared with it.

    Gender, race and age are read from their columns. The subject is ``id_num``, padded with zeros to six
    digits. Extra columns: ``dob`` and ``doa`` (dates of birth and of the image as ``YYYY-MM-DD``, "" if
    unreadable) and ``picture`` (the subject's image number, -1 if unreadable).

    Args:
        root: Folder of the release; the table may be in a subfolder, and its name may differ in case.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: The table or all photos are missing (the message shows the expected tree), a column is
            missing, a gender or race is invalid, or ``strict`` and a row was dropped.
    """
    root = Path(root)
    path = find_file(root, TABLE)
    if path is None:
        raise expected_tree_error(root, f"no {TABLE}", TREE)
    base = next((folder for folder in (path.parent, root) if has_folder(folder, PHOTOS)), path.parent)
    report = ReadReport(str(path))
    rows = read_delimited(path, ",", _COLUMNS, report).apply(lambda cells: cells.str.strip())
    absent = expected_tree_error(base, f"none of the {len(rows):,} photos of {path.name}", TREE)
    rows = locate(rows, "photo", list_images(base), report, absent)
    rows = _drop_unlabelled(rows, report)
    classes = {
        "gender": parse_words(rows, "gender", _GENDERS, -1, path),
        "race": parse_words(rows, "race", _RACES, -1, path),
    }
    _note_oddities(rows, report)
    report.finish(strict)
    frame = make_frame(_labels(rows).assign(**classes), "morph", extra=("dob", "doa", "picture"))
    return FaceTable(frame, base, "morph", "morph table columns", RACE_CLASSES, report)


def _drop_unlabelled(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    rows = rows.assign(years=parse_ages(rows["age"]))
    rows = report.drop_rows(rows, ~(rows["years"] % 1 == 0), "photo", "age is not a whole number of years")
    return report.drop_rows(rows, ~_are_numbers(rows["id_num"]), "photo", "id_num is not a number")


def _note_oddities(rows: pd.DataFrame, report: ReadReport) -> None:
    for column in ("gender", "race"):
        report.note_rows(rows, rows[column] == "", "photo", f"unknown {column}")
    for column in ("dob", "doa"):
        unreadable = (rows[column] != "") & (_iso_dates(rows[column]) == "")
        report.note_rows(rows, unreadable, "photo", f"{column} is not a date (MM/DD/YYYY)")
    report.note_rows(rows, ~_are_numbers(rows["picture_num"]), "photo", "picture_num is not a number")
    name = rows["photo"].str.extract(_NAME).fillna("")
    odd = name["subject"] == ""
    report.note_rows(rows, odd, "photo", "unusual file name")
    differs = {
        "subject": name["subject"] != rows["id_num"].str.zfill(6),
        "gender": name["gender"].str.upper() != rows["gender"].str.upper(),
        "age": pd.to_numeric(name["age"]) != rows["years"],
    }
    for column, mask in differs.items():
        report.note_rows(rows, mask & ~odd, "photo", f"name disagrees with the table's {column}")


def _labels(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": rows["photo"],
            "path": rows["path"],
            "age_low": rows["years"],
            "age_high": rows["years"],
            "subject": rows["id_num"].str.zfill(6),
            "dob": _iso_dates(rows["dob"]),
            "doa": _iso_dates(rows["doa"]),
            "picture": rows["picture_num"].where(_are_numbers(rows["picture_num"]), "-1").astype("int64"),
        }
    )


def _are_numbers(texts: "pd.Series[str]") -> "pd.Series[bool]":
    return texts.str.fullmatch("[0-9]{1,18}").astype(bool)


def _iso_dates(texts: "pd.Series[str]") -> "pd.Series[str]":
    dates = pd.to_datetime(texts, format="%m/%d/%Y", errors="coerce")
    return dates.dt.strftime("%Y-%m-%d").fillna("").astype("str")


class MORPH(FaceDataModule):
    """MORPH Album II: exact ages, gender and race; the photos are mug shots, not cropped to the face.

    Args:
        protocol: Split protocol. With ``random`` nearly every test face shows a person of the training part,
            and errors are less than half as large.
        crop: Side of the central square that is used, as a fraction of the photo's shorter side.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "morph"
    race_classes = RACE_CLASSES
    protocols = (
        "subject_exclusive", "random", "setting_a", "s1_s2_s3", "predefined", "cvpr2024", "whole",
        "train_all",
    )  # fmt: skip
    expected_tree = TREE

    def __init__(self, *, protocol: str = "subject_exclusive", crop: float = 0.85, **kwargs: Any) -> None:
        super().__init__(protocol=protocol, crop=crop, **kwargs)

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_morph`."""
        return read_morph(self.root, self.strict)


class MORPHDataset(ReleaseDataset):
    """MORPH Album II as a map-style dataset; see :class:`.ReleaseDataset`, :class:`MORPH`."""

    datamodule = MORPH
