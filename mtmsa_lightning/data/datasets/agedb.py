"""AgeDB: 16,488 photos of 567 people, ages 1 to 101, labels in the file names."""

from pathlib import Path
from typing import Any

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import finish_table, image_rows, keep_first, label_ages, parse_names

TREE = """
<root>/
  AgeDB/
    0_MariaCallas_35_f.jpg  (<number>_<name>_<age>_<m|f>.jpg)
    ...
"""
NAMES = r"(?P<number>[0-9]+)_(?P<subject>[^_]+)_(?P<age>[0-9]+)_(?P<sex>[mf])\.jpg"
LAYOUT = "<number>_<name>_<age>_<m|f>.jpg"


def read_agedb(root: str | Path, strict: bool = False) -> FaceTable:
    """Read AgeDB from its file names, anywhere below ``root``.

    The subject is the name in the file name, without spaces around it. The names of five people are spelt
    differently in other copies, so that the extra column ``number`` (each once, 0 to 16487) identifies an
    image in lists from elsewhere.

    Args:
        root: Folder of the images.
        strict: Raise an error instead of dropping files.

    Raises:
        DataError: No image is found (the message shows the expected tree), or ``strict`` and a file was
            dropped.
    """
    rows, report = image_rows(Path(root), TREE)
    rows = parse_names(rows, report, NAMES, LAYOUT)
    rows = keep_first(rows, report).assign(id=lambda kept: kept["name"])
    rows = rows.assign(
        gender=rows["sex"].map({"m": 0, "f": 1}),
        subject=rows["subject"].str.strip(),
        number=rows["number"].astype("int64"),
    )
    rows = label_ages(rows, rows["age"].astype("float64"), report)
    return finish_table(rows, Path(root), report, "agedb", "agedb file names", strict, extra=("number",))


class AgeDB(FaceDataModule):
    """AgeDB: exact ages and gender of people known by name; the photos are not cropped to the face.

    Args:
        protocol: Split protocol. A ``split_file`` may name images by their leading number.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "agedb"
    protocols = ("subject_exclusive", "random", "predefined", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def __init__(self, *, protocol: str = "subject_exclusive", **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_agedb`."""
        return read_agedb(self.root, self.strict)


class AgeDBDataset(ReleaseDataset):
    """AgeDB as a map-style dataset; see :class:`.ReleaseDataset`, :class:`AgeDB`."""

    datamodule = AgeDB
