"""APPA-REAL: 7,591 photos with the real age and the mean and deviation of guessed ages."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, parse_ages
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import (
    check_choice,
    finish_table,
    label_ages,
    locate_images,
    read_parts,
)

Age = Literal["apparent", "real"]
Variant = Literal["faces", "photos"]

TREE = """
<root>/
  appa-real-release/
    gt_avg_train.csv gt_avg_valid.csv gt_avg_test.csv
    train/ valid/ test/
      000000.jpg           (the photo, variant photos)
      000000.jpg_face.jpg  (the face, variant faces)
      000000.jpg.mat
      ...
"""
FILES = ("gt_avg_train.csv",)

_TABLES = {"train": "gt_avg_train.csv", "val": "gt_avg_valid.csv", "test": "gt_avg_test.csv"}
_FOLDERS = {"train": "train", "val": "valid", "test": "test"}
_COLUMNS = ("file_name", "apparent_age_avg", "apparent_age_std", "real_age")
_RULES = {"apparent": "appa_real apparent age, rounded", "real": "appa_real real age"}
_SUFFIX = {"faces": "_face.jpg", "photos": ""}


def read_appa_real(
    root: str | Path, age: Age = "apparent", variant: Variant = "faces", strict: bool = False
) -> FaceTable:
    """Read APPA-REAL from the tables of its three parts, one row a photo.

    Extra columns: ``apparent_age`` and ``apparent_std``, the mean and the standard deviation of the guesses
    in years as published, and ``real_age`` (NaN if it is missing). The pictures are taken to be those of
    CLAP2016.

    Args:
        root: Folder of the release; the tables may be in a subfolder.
        age: The age label: ``apparent``, rounded to whole years (halves up), or ``real``.
        variant: Images: ``faces``, the release's rotated crops with a margin of 40 %, or ``photos``.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: A table or all images are missing (the message shows the expected tree), a column is
            missing, a choice does not exist, or ``strict`` and a row was dropped.
    """
    check_choice("age", age, get_args(Age))
    check_choice("variant", variant, get_args(Variant))
    report = ReadReport(str(root))
    base, rows = read_parts(Path(root), _TABLES, _COLUMNS, report, TREE)
    rows = rows.assign(id=rows["split"].map(_FOLDERS) + "/" + rows["file_name"] + _SUFFIX[variant])
    rows = locate_images(rows, base, report, TREE)
    names = ("apparent_age", "apparent_std", "real_age")
    rows = rows.assign(
        **{name: parse_ages(rows[column]) for name, column in zip(names, _COLUMNS[1:], strict=True)}
    )
    report.note_rows(rows, rows["apparent_std"] == 0, "id", "the standard deviation of the guesses is 0")
    rows = label_ages(rows, np.floor(rows[f"{age}_age"] + 0.5 * (age == "apparent")), report)
    return finish_table(rows, base, report, "appa_real", _RULES[age], strict, extra=names)


class APPAREAL(FaceDataModule):
    """APPA-REAL: apparent or real ages, with the release's own training, validation and test part.

    Args:
        age: The age label: ``apparent`` or ``real``.
        variant: Images of the release: ``faces`` or ``photos``.
        protocol: ``predefined`` uses the release's own parts.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "appa_real"
    protocols = ("predefined", "random", "whole", "train_all")
    expected_tree = TREE

    def __init__(
        self,
        *,
        age: Age = "apparent",
        variant: Variant = "faces",
        protocol: str = "predefined",
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.age: Age = age
        self.prepared_rule = _RULES[age]
        self.variant: Variant = variant

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_appa_real`."""
        return read_appa_real(self.root, self.age, self.variant, self.strict)


class APPAREALDataset(ReleaseDataset):
    """APPA-REAL as a map-style dataset; see :class:`.ReleaseDataset`, :class:`APPAREAL`."""

    datamodule = APPAREAL
