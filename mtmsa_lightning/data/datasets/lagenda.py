"""LAGENDA: 84,192 faces with age and gender in 67,159 whole scenes, with face boxes; for testing."""

from pathlib import Path
from typing import Any

from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, parse_ages, parse_words
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import box_columns, finish_table, image_rows, label_ages, locate_images
from mtmsa_lightning.data.release_files import expected_tree_error, find_file, read_delimited

TREE = """
<root>/
  lagenda_annotation.csv  (header: img_name,age,gender,face_x0,face_y0,face_x1,face_y1,person_x0,...)
  ... any folders ...
    the images, named by the column img_name
"""
FILES = ("lagenda_annotation.csv",)

_EDGES = ("face_x0", "face_y0", "face_x1", "face_y1")
_GENDERS = {"m": 0, "f": 1}

BOX_MARGIN = 0.2


def read_lagenda(root: str | Path, box_margin: float = BOX_MARGIN, strict: bool = False) -> FaceTable:
    """Read LAGENDA from its table, one row a face; the images may lie in any folder below ``root``.

    A row without age and gender, or without a face box, is dropped (-1 is missing in every column). The
    columns of ``align.box.BOX`` hold the face box with its margin; the boxes of persons are not used.

    Args:
        root: Folder of the release; the table may be in a subfolder.
        box_margin: Margin on each side of the face boxes, as a fraction of the longer side.
        strict: Raise an error instead of dropping rows. The release itself contains unlabelled rows.

    Raises:
        DataError: The table or all images are missing (the message shows the expected tree), a column is
            missing, a gender is invalid, or ``strict`` and a row was dropped.
    """
    root = Path(root)
    path = find_file(root, FILES[0])
    if path is None:
        raise expected_tree_error(root, f"no {FILES[0]}", TREE)
    report = ReadReport(str(path))
    rows = read_delimited(path, ",", ("img_name", "age", "gender", *_EDGES), report)
    rows = rows.apply(lambda cells: cells.str.strip())
    images = image_rows(root, TREE)[0].drop_duplicates("name").set_index("name")["path"]
    names = rows["img_name"].str.rpartition("/")[2].str.normalize("NFC")
    rows = rows.assign(id=rows["img_name"], file=names.map(images).fillna(rows["img_name"]))
    rows = locate_images(rows, root, report, TREE, "file")
    rows = box_columns(rows, report, _EDGES, box_margin)
    rows = rows.assign(gender=parse_words(rows.replace("-1", ""), "gender", _GENDERS, -1, path))
    rows = label_ages(rows, parse_ages(rows["age"]), report, item="id")
    rule = f"lagenda face boxes, margin {box_margin:g}"
    return finish_table(rows, root, report, "lagenda", rule, strict, extra=BOX)


class LAGENDA(FaceDataModule):
    """LAGENDA: exact ages and gender of faces in scenes, cropped to their boxes.

    Args:
        protocol: ``whole`` tests a model that was trained on other faces.
        box_margin: Margin around the face boxes. Without a box the age error of a public model doubles.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "lagenda"
    protocols = ("whole", "random", "predefined", "train_all")
    expected_tree = TREE

    def __init__(self, *, protocol: str = "whole", box_margin: float = BOX_MARGIN, **kwargs: Any) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.box_margin = box_margin

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_lagenda`."""
        return read_lagenda(self.root, self.box_margin, self.strict)


class LAGENDADataset(ReleaseDataset):
    """LAGENDA as a map-style dataset; see :class:`.ReleaseDataset`, :class:`LAGENDA`."""

    datamodule = LAGENDA
