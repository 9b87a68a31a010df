"""CACD2000: 163,446 photos of 2,000 celebrities, ages 14 to 62 by year, labels in the file names."""

from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import (
    finish_table,
    image_rows,
    keep_first,
    label_ages,
    parse_names,
    read_struct,
)
from mtmsa_lightning.data.release_files import find_file

TREE = """
<root>/
  celebrity2000_meta.mat  (only for the protocol predefined)
  CACD2000/
    53_Robin_Williams_0001.jpg  (<age>_<name>_<number>.jpg)
    ...
"""
FILES = ("celebrity2000_meta.mat",)
NAMES = r"(?P<age>[0-9]{1,2})_(?P<subject>.+)_(?P<number>[0-9]{4})\.jpg"
LAYOUT = "<age>_<name>_<number>.jpg"

_STRUCT = "celebrityImageData"


def read_cacd2000(root: str | Path, strict: bool = False) -> FaceTable:
    """Read CACD2000 from its file names, anywhere below ``root``, and the parts from its .mat file.

    The age is the year of the photo minus that of birth, so that it is up to one year above the completed
    years. The subject is the name in the file name. Parts by the celebrity's ``rank`` in the .mat file: up to
    2 validation (80 people), 3 to 5 test (120), the others training; only the first two were checked by hand.

    Args:
        root: Folder of the images and the .mat file, which may be missing.
        strict: Raise an error instead of dropping files.

    Raises:
        DataError: No image is found (the message shows the expected tree), the .mat file cannot be read, or
            ``strict`` and a file was dropped.
    """
    root = Path(root)
    rows, report = image_rows(root, TREE)
    rows = parse_names(rows, report, NAMES, LAYOUT)
    rows = keep_first(rows, report).assign(id=lambda kept: kept["name"])
    meta = find_file(root, FILES[0])
    rule = "cacd2000 file names"
    if meta is not None:
        rows, rule = rows.assign(split=_parts(meta, rows, report)), f"{rule}, parts by rank"
    rows = label_ages(rows, rows["age"].astype("float64"), report)
    return finish_table(rows, root, report, "cacd2000", rule, strict)


def _parts(meta: Path, rows: pd.DataFrame, report: ReadReport) -> "pd.Series[str]":
    """Return the part of each image by its rank; images that exist only in the .mat file are counted."""
    data = read_struct(meta, _STRUCT, ("name", "rank"))
    data = data.assign(name=data["name"].str.normalize("NFC")).drop_duplicates("name")
    absent = ~data["name"].isin(rows["name"])
    report.read += int(absent.sum())
    report.drop_rows(data, absent, "name", f"in {meta.name}, but file not found")
    rank = rows["name"].map(data.set_index("name")["rank"].astype("float64"))
    report.note_rows(rows, rank.isna(), "path", f"not in {meta.name}: in no part")
    parts = pd.cut(rank, [0, 2, 5, float("inf")], labels=["val", "test", "train"])
    return parts.astype("object").fillna("").astype("str")


class CACD2000(FaceDataModule):
    """CACD2000: ages of celebrities known by name; ages of the training part are noisy.

    Args:
        protocol: ``predefined`` uses the parts by rank.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "cacd2000"
    protocols = ("predefined", "subject_exclusive", "random", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def __init__(self, *, protocol: str = "predefined", **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_cacd2000`."""
        return read_cacd2000(self.root, self.strict)


class CACD2000Dataset(ReleaseDataset):
    """CACD2000 as a map-style dataset; see :class:`.ReleaseDataset`, :class:`CACD2000`."""

    datamodule = CACD2000
