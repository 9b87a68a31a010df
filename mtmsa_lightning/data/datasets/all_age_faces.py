"""All-Age-Faces: 13,322 mostly Asian faces, ages 2 to 80, each of another person."""

from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import (
    check_choice,
    choose_variant,
    finish_table,
    image_rows,
    keep_first,
    label_ages,
    parse_names,
)
from mtmsa_lightning.data.release_files import find_file, read_lines

Variant = Literal["faces", "photos"]

TREE = """
<root>/
  All-Age-Faces Dataset/
    aglined faces/    (variant faces; or aligned faces)
      00000A02.jpg    (<number>A<age>.jpg; up to 07380 female, above male)
      ...
    original images/  (variant photos)
      00000A02.jpg
      ...
    image sets/
      train.txt val.txt  (lines: 00000A02.jpg 0, or 00000A02 0; 0 female, 1 male)
"""
NAMES = r"(?P<number>[0-9]{5})A(?P<age>[0-9]{2})\.jpg"
LAYOUT = "<number>A<age>.jpg"

_FOLDERS = {"faces": ("aligned faces", "aglined faces"), "photos": ("original images",)}
"""Folders of the images; the release's own folder of aligned faces has the second name."""
_LAST_FEMALE = 7_380
_LISTS = {"train": "train.txt", "test": "val.txt"}


def read_all_age_faces(root: str | Path, variant: Variant = "faces", strict: bool = False) -> FaceTable:
    """Read All-Age-Faces from its file names, and the parts from its lists.

    The gender is that of the number: up to 7380 female, above male. The list ``val.txt`` is the test part,
    because there is no other. The lists may be missing.

    Args:
        root: Folder of the release.
        variant: Images: ``faces`` (aligned) or ``photos``.
        strict: Raise an error instead of dropping files.

    Raises:
        DataError: No image is found (the message shows the expected tree), or ``strict`` and a file was
            dropped.
    """
    check_choice("variant", variant, get_args(Variant))
    rows, report = image_rows(Path(root), TREE)
    folders = ("/" + rows["path"]).str.lower().str.rpartition("/")[0].str.rpartition("/")[2]
    others = [name for other, names in _FOLDERS.items() if other != variant for name in names]
    rows = choose_variant(rows, report, ~folders.isin(others))
    rows = parse_names(rows, report, NAMES, LAYOUT)
    rows = keep_first(rows, report).assign(id=lambda kept: kept["name"])
    rows = rows.assign(gender=(rows["number"].astype("int64") <= _LAST_FEMALE).astype("int64"))
    rows = rows.assign(split=_parts(Path(root), rows, report))
    rows = label_ages(rows, rows["age"].astype("float64"), report)
    return finish_table(rows, Path(root), report, "all_age_faces", "all_age_faces file names", strict)


def _parts(root: Path, rows: pd.DataFrame, report: ReadReport) -> "pd.Series[str]":
    """Return the part of each face by the lists; a gender in a list that differs from the face's is noted."""
    parts, genders = {}, {}
    for split, name in _LISTS.items():
        path = find_file(root, name, depth=2)
        for line in read_lines(path) if path else ():
            file, _, gender = line.partition(" ")
            image = f"{file.removesuffix('.jpg')}.jpg"
            parts[image], genders[image] = split, {"0": 1, "1": 0}.get(gender.strip(), -1)
    listed = rows["name"].map(genders)
    report.note_rows(rows, listed.notna() & (listed != rows["gender"]), "path", "a list has another gender")
    return rows["name"].map(parts).astype("object").fillna("").astype("str")


class AllAgeFaces(FaceDataModule):
    """All-Age-Faces: exact ages and gender; every face shows another person.

    Args:
        variant: Images of the release: ``faces`` (aligned) or ``photos``.
        protocol: ``predefined`` uses the release's lists.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "all_age_faces"
    protocols = ("random", "predefined", "whole", "train_all")
    expected_tree = TREE

    def __init__(self, *, variant: Variant = "faces", protocol: str = "random", **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.variant: Variant = variant

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_all_age_faces`."""
        return read_all_age_faces(self.root, self.variant, self.strict)


class AllAgeFacesDataset(ReleaseDataset):
    """All-Age-Faces as a map-style dataset; see :class:`.ReleaseDataset`, :class:`AllAgeFaces`."""

    datamodule = AllAgeFaces
