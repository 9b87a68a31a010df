"""CLAP2016 (ChaLearn LAP, apparent age): 7,591 photos with the mean and deviation of guessed ages."""

from pathlib import Path
from typing import Any

import numpy as np

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, parse_ages
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import finish_table, label_ages, locate_images, read_parts

TREE = """
<root>/
  train_gt.csv valid_gt.csv test_gt.csv  (header: image,mean,stdv)
  train/ valid/ test/
    000000.jpg
    ...
"""
FILES = ("train_gt.csv",)

_TABLES = {"train": "train_gt.csv", "val": "valid_gt.csv", "test": "test_gt.csv"}
_FOLDERS = {"train": "train", "val": "valid", "test": "test"}


def read_clap2016(root: str | Path, strict: bool = False) -> FaceTable:
    """Read CLAP2016 from the tables of its three parts.

    The age is the mean of the guesses, rounded to whole years (halves up). Extra columns: ``apparent_age``
    and ``apparent_std``, the mean and the standard deviation in years as published. The pictures are taken to
    be those of APPA-REAL.

    Args:
        root: Folder of the release; the tables may be in a subfolder.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: A table or all images are missing (the message shows the expected tree), a column is
            missing, or ``strict`` and a row was dropped.
    """
    report = ReadReport(str(root))
    base, rows = read_parts(Path(root), _TABLES, ("image", "mean", "stdv"), report, TREE)
    rows = rows.assign(id=rows["split"].map(_FOLDERS) + "/" + rows["image"])
    rows = locate_images(rows, base, report, TREE)
    rows = rows.assign(apparent_age=parse_ages(rows["mean"]), apparent_std=parse_ages(rows["stdv"]))
    report.note_rows(rows, rows["apparent_std"] == 0, "id", "the standard deviation of the guesses is 0")
    rows = label_ages(rows, np.floor(rows["apparent_age"] + 0.5), report)
    extra = ("apparent_age", "apparent_std")
    return finish_table(rows, base, report, "clap2016", "clap2016 apparent age, rounded", strict, extra=extra)


class CLAP2016(FaceDataModule):
    """CLAP2016: apparent ages, with the release's own training, validation and test part.

    Args:
        protocol: ``predefined`` uses the release's own parts.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "clap2016"
    protocols = ("predefined", "random", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def __init__(self, *, protocol: str = "predefined", **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_clap2016`."""
        return read_clap2016(self.root, self.strict)


class CLAP2016Dataset(ReleaseDataset):
    """CLAP2016 as a map-style dataset; see :class:`.ReleaseDataset`, :class:`CLAP2016`."""

    datamodule = CLAP2016
