"""IMDB-Clean: 285,946 faces of IMDB-WIKI's IMDB part with corrected ages, and official parts."""

from pathlib import Path
from typing import Any, Literal, get_args

from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, parse_ages, parse_words
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import (
    box_columns,
    check_choice,
    finish_table,
    label_ages,
    locate_images,
    read_parts,
)

Variant = Literal["cropped", "original"]

TREE = """
<root>/
  csvs/
    imdb_train_new_1024.csv imdb_valid_new_1024.csv imdb_test_new_1024.csv  (variant cropped)
    imdb_train_new.csv imdb_valid_new.csv imdb_test_new.csv                 (variant original)
  imdb-clean-1024/  (variant cropped)
    07/nm0014107_rm1184075776_1963-10-8_2007.jpg
    ...
  imdb/             (variant original: the photos of IMDB-WIKI)
    07/nm0014107_rm1184075776_1963-10-8_2007.jpg
    ...
"""
FILES = ("imdb_train_new_1024.csv", "imdb_train_new.csv")

_PARTS = {"train": "train", "val": "valid", "test": "test"}
_SUFFIX = {"cropped": "_1024", "original": ""}
_FOLDER = {"cropped": "imdb-clean-1024", "original": "imdb"}
_EDGES = ("x_min", "y_min", "x_max", "y_max")
_GENDERS = {"m": 0, "f": 1}

BOX_MARGIN = 0.4


def read_imdb_clean(
    root: str | Path, variant: Variant = "cropped", box_margin: float = BOX_MARGIN, strict: bool = False
) -> FaceTable:
    """Read IMDB-Clean from the tables of its three parts.

    The subject is the person's number at IMDB in the file name (``nm...``). No subject of the test part is in
    another one; training and validation part share subjects. The variant ``original`` has the columns of
    ``align.box.BOX``.

    Args:
        root: Folder of the release, with ``csvs`` and the images.
        variant: Images: ``cropped``, the square crops of ``imdb-clean-1024`` with a margin of 40 %, or
            ``original``, the photos in which the tables' boxes are used.
        box_margin: Margin on each side of the boxes of the variant ``original``, as a fraction of the longer
            side; ``cropped`` has one of 0.4.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: A table or all images are missing (the message shows the expected tree), a column is
            missing, a gender is invalid, or ``strict`` and a row was dropped.
    """
    check_choice("variant", variant, get_args(Variant))
    root, report = Path(root), ReadReport(str(root))
    tables = {split: f"imdb_{part}_new{_SUFFIX[variant]}.csv" for split, part in _PARTS.items()}
    folder, rows = read_parts(root, tables, ("filename", "age", "gender", *_EDGES), report, TREE)
    base = root if folder == root else folder.parent
    rows = rows.assign(id=rows["filename"], file=f"{_FOLDER[variant]}/" + rows["filename"])
    rows = locate_images(rows, base, report, TREE, "file")
    rows = rows.assign(
        gender=parse_words(rows, "gender", _GENDERS, -1, folder / tables["train"]),
        subject=rows["filename"].str.extract(r"(nm\d+)_rm")[0].fillna(""),
    )
    report.note_rows(rows, rows["subject"] == "", "id", "the file name has no person")
    rows = label_ages(rows, parse_ages(rows["age"]), report, item="id")
    rule, extra = f"imdb_clean {variant}", BOX if variant == "original" else ()
    if extra:
        rows = box_columns(rows, report, _EDGES, box_margin)
        rule += f", margin {box_margin:g}"
    return finish_table(rows, base, report, "imdb_clean", rule, strict, extra=extra)


class IMDBClean(FaceDataModule):
    """IMDB-Clean: corrected ages and gender of celebrities, with the official parts.

    Args:
        variant: Images of the release: ``cropped`` or ``original`` (with boxes).
        protocol: ``predefined`` uses the official parts.
        box_margin: Margin around the boxes of the variant ``original``.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "imdb_clean"
    protocols = ("predefined", "subject_exclusive", "random", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def __init__(
        self,
        *,
        variant: Variant = "cropped",
        protocol: str = "predefined",
        box_margin: float = BOX_MARGIN,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.variant: Variant = variant
        self.box_margin = box_margin

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_imdb_clean`."""
        return read_imdb_clean(self.root, self.variant, self.box_margin, self.strict)


class IMDBCleanDataset(ReleaseDataset):
    """IMDB-Clean as a map-style dataset; see :class:`.ReleaseDataset`, :class:`IMDBClean`."""

    datamodule = IMDBClean
