"""UTKFace: about 23,705 faces from the web, ages 0 to 116, labels in the file names, no subjects."""

from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import MAX_AGE, FaceTable
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import (
    check_choice,
    choose_variant,
    finish_table,
    image_rows,
    keep_first,
    parse_names,
)
from mtmsa_lightning.data.release_files import content_column
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import GENDERS

Variant = Literal["aligned", "in_the_wild"]

TREE = """
<root>/
  ... any folders ...
    25_0_2_20170116174525125.jpg.chip.jpg  (<age>_<gender>_<race>_<timestamp>.jpg.chip.jpg)
    ...
or, variant in_the_wild, whole photos:
  part1/ part2/ part3/
    25_0_2_20170116174525125.jpg
"""
RACE_CLASSES: tuple[str, ...] = ("white", "black", "asian", "indian", "other")
NAMES = r"(?P<age>[0-9]{1,3})_(?P<gender>[0-9])_(?P<race>[0-9])_[0-9]+[^0-9].*"
LAYOUT = "<age>_<gender>_<race>_<timestamp>"

_SHORT = r"[0-9]{1,3}(?:_[0-9])?_[0-9]{6,}[^0-9].*"


def read_utkface(root: str | Path, variant: Variant = "aligned", strict: bool = False) -> FaceTable:
    """Read UTKFace from its file names, anywhere below ``root``.

    Text after the timestamp is ignored, because one name of the release lacks a dot and one has a space.
    Names that lack a field and files that cannot be read are dropped. A name that occurs in several folders
    is kept once (in sorted order), because the release is often unpacked together with a second copy. The
    extra column ``content`` holds the hash of each file (16 hexadecimal digits), by which splits keep exact
    copies together.

    Args:
        root: Folder of the images.
        variant: ``aligned`` for the cropped faces, ``in_the_wild`` for the three parts of whole photos, whose
            names do not end with ``chip.jpg``. A root may hold both forms.
        strict: Raise an error instead of dropping files.

    Raises:
        DataError: No image is found (the message shows the expected tree), all images are of the other
            variant, or ``strict`` and a file was dropped.
    """
    check_choice("variant", variant, get_args(Variant))
    root, wild = Path(root), variant == "in_the_wild"
    rows, report = image_rows(root, TREE)
    chip = rows["name"].str.lower().str.endswith("chip.jpg")
    rows = choose_variant(rows, report, ~chip if wild else ~_whole_photos(rows, chip))
    if rows.empty:
        held, other = ("cropped faces", "aligned") if wild else ("whole photos", "in_the_wild")
        raise DataError(f"{root}: holds only {held}: --data.variant {other}")
    rows = report.drop_rows(rows, rows["name"].str.fullmatch(_SHORT), "path", "name lacks a field")
    rows = parse_names(rows, report, NAMES, LAYOUT)
    rows = rows.astype(dict.fromkeys(("age", "gender", "race"), "int64"))
    outside = (rows["age"] > MAX_AGE) | (rows["gender"] >= len(GENDERS)) | (rows["race"] >= len(RACE_CLASSES))
    rows = report.drop_rows(rows, outside, "path", "age, gender or race is out of range")
    rows = keep_first(rows, report)
    rows = rows.assign(
        id=rows["name"], age_low=rows["age"], age_high=rows["age"], content=content_column(root, rows["path"])
    )
    rows = report.drop_rows(rows, rows["content"] == "", "path", "file cannot be read")
    labels = rows["age"] * 100 + rows["gender"] * 10 + rows["race"]
    conflict = labels.groupby(rows["content"]).transform("nunique") > 1
    report.note_rows(rows, conflict, "path", "an exact copy has other labels")
    rule = "utkface in-the-wild file names" if wild else "utkface file names"
    return finish_table(
        rows, root, report, "utkface", rule, strict, race_classes=RACE_CLASSES, extra=("content",)
    )


def _whole_photos(rows: pd.DataFrame, chip: "pd.Series[bool]") -> "pd.Series[bool]":
    """Return which images are of the in-the-wild form: in ``part1`` to ``part3`` without any cropped face."""
    folders = rows["path"].str.rpartition("/")[0]
    part = folders.str.rpartition("/")[2].str.fullmatch("(?i:part[123])").astype(bool)
    return part & ~folders.isin(folders[chip])


class UTKFace(FaceDataModule):
    """UTKFace: exact ages, gender and race; subjects are unknown.

    The protocol ``random`` keeps exact copies of an image in one part.

    Args:
        variant: Images of the release: ``aligned`` (cropped faces) or ``in_the_wild`` (whole photos; prepare
            them by ``mtmsa prepare`` before training).
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "utkface"
    race_classes = RACE_CLASSES
    protocols = ("random", "predefined", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def __init__(self, *, variant: Variant = "aligned", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variant: Variant = variant

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_utkface`."""
        return read_utkface(self.root, self.variant, self.strict)


class UTKFaceDataset(ReleaseDataset):
    """UTKFace as a map-style dataset; see :class:`.ReleaseDataset`, :class:`UTKFace`."""

    datamodule = UTKFace
