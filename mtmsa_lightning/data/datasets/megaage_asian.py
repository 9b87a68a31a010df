"""MegaAge-Asian: about 43,945 photos of Asian faces with exact ages, in lists without gender or subjects."""

from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, parse_ages
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import finish_table, label_ages, locate_images
from mtmsa_lightning.data.release_files import expected_tree_error, find_file, read_lines
from mtmsa_lightning.errors import DataError

TREE = """
<root>/
  megaage_asian/
    list/
      train_name.txt train_age.txt  (one value a line, in the same order)
      test_name.txt  test_age.txt
    train/ test/
      1.jpg
      ...
"""
FILES = ("train_name.txt",)

_DEPTH = 3  # one public copy nests its folder twice


def read_megaage_asian(root: str | Path, strict: bool = False) -> FaceTable:
    """Read MegaAge-Asian from its lists of names and ages; the lists of age distributions are not used.

    Args:
        root: Folder of the release; the folder ``list`` may be up to three folders below.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: A list or all images are missing (the message shows the expected tree), two lists differ in
            length, or ``strict`` and a row was dropped.
    """
    root = Path(root)
    first = find_file(root, FILES[0], _DEPTH)
    folder = first.parent if first else root
    report = ReadReport(str(folder))
    rows = pd.concat([_read_part(folder, split, report) for split in ("train", "test")])
    rows = locate_images(rows, folder.parent, report, TREE)
    rows = label_ages(rows, parse_ages(rows["age"]), report)
    return finish_table(rows, folder.parent, report, "megaage_asian", "megaage_asian lists", strict)


def _read_part(folder: Path, split: str, report: ReadReport) -> pd.DataFrame:
    columns = {}
    for column in ("name", "age"):
        path = find_file(folder, f"{split}_{column}.txt", 0)
        if path is None:
            raise expected_tree_error(folder, f"no {split}_{column}.txt", TREE)
        columns[column] = read_lines(path)
    if len(columns["name"]) != len(columns["age"]):
        lengths = " and ".join(f"{split}_{name}.txt {len(lines):,}" for name, lines in columns.items())
        raise DataError(f"{folder}: lists of different length: {lengths} lines: copy them again")
    rows = pd.DataFrame(columns, dtype="str")
    report.read += len(rows)
    return rows.assign(id=f"{split}/" + rows["name"], split=split).set_axis(range(1, len(rows) + 1))


class MegaAgeAsian(FaceDataModule):
    """MegaAge-Asian: exact ages, with the release's own training and test part.

    Args:
        protocol: ``predefined`` uses the release's own parts; the validation faces are drawn from training.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "megaage_asian"
    protocols = ("predefined", "random", "whole", "train_all")
    expected_tree = TREE

    def __init__(self, *, protocol: str = "predefined", **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_megaage_asian`."""
        return read_megaage_asian(self.root, self.strict)


class MegaAgeAsianDataset(ReleaseDataset):
    """MegaAge-Asian as a map-style dataset; see :class:`.ReleaseDataset`, :class:`MegaAgeAsian`."""

    datamodule = MegaAgeAsian
