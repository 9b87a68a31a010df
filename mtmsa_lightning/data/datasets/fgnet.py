"""FG-NET: 1,002 photos of 82 people, ages 0 to 69, labels in the file names."""

from pathlib import Path
from typing import Any

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import finish_table, image_rows, keep_first, label_ages, parse_names

TREE = """
<root>/
  FG-NET/images/
    001A02.JPG  (<subject>A<age>.JPG, with a letter after the age for a second picture)
    ...
"""
NAMES = r"(?i:(?P<subject>[0-9]{3})A(?P<age>[0-9]{1,2})[a-z]?\.jpg)"
LAYOUT = "<subject>A<age>.JPG"


def read_fgnet(root: str | Path, strict: bool = False) -> FaceTable:
    """Read FG-NET from its file names, anywhere below ``root``; case is ignored.

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
    rows = label_ages(rows, rows["age"].astype("float64"), report)
    return finish_table(rows, Path(root), report, "fgnet", "fgnet file names", strict)


class FGNET(FaceDataModule):
    """FG-NET: exact ages of 82 people, from childhood; one in six photos is grey.

    Args:
        protocol: ``leave_one_subject_out`` has one test fold for each of the 82 people.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "fgnet"
    protocols = (
        "leave_one_subject_out",
        "subject_exclusive",
        "random",
        "predefined",
        "cvpr2024",
        "whole",
        "train_all",
    )
    expected_tree = TREE

    def __init__(self, *, protocol: str = "leave_one_subject_out", **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_fgnet`."""
        return read_fgnet(self.root, self.strict)


class FGNETDataset(ReleaseDataset):
    """FG-NET as a map-style dataset; see :class:`.ReleaseDataset`, :class:`FGNET`."""

    datamodule = FGNET
