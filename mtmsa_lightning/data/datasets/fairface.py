"""FairFace: 97,698 balanced faces with nine age groups, gender and seven races; no subjects."""

from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, parse_words
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import check_choice, finish_table, locate_images, read_parts
from mtmsa_lightning.data.release_files import expected_tree_error, find_file
from mtmsa_lightning.data.tables import age_columns
from mtmsa_lightning.data.tables.parquet import read_texts, unpack_images
from mtmsa_lightning.labels import FAIRFACE_AGE_GROUPS

Variant = Literal["margin025", "margin125"]

TREE = """
<root>/
  fairface_label_train.csv fairface_label_val.csv  (header: file,age,gender,race,service_test)
  train/ val/   (or both in a folder with margin025, or margin125, in its name)
    1.jpg
    ...
or the copy of the Hugging Face Hub:
  ... any folders, with 0.25 or 1.25 in the path if there are both ...
    train-*.parquet validation-*.parquet  (columns image, age, gender, race)
"""
FILES = ("fairface_label_train.csv",)
RACE_CLASSES: tuple[str, ...] = (
    "White", "Black", "Indian", "East Asian", "Southeast Asian", "Middle Eastern", "Latino_Hispanic",
)  # fmt: skip

_TABLES = {"train": "fairface_label_train.csv", "test": "fairface_label_val.csv"}
_COLUMNS = ("age", "gender", "race")
_FOLDERS = {"train": "train", "test": "val"}
_GENDERS = {"male": 0, "female": 1}


def read_fairface(
    root: str | Path, variant: Variant = "margin025", repair_dates: bool = False, strict: bool = False
) -> FaceTable:
    """Read FairFace from its two tables, or from the Parquet files of the Hugging Face Hub.

    The release has no test part: its validation part is the test part here, and validation faces are drawn
    from the training part. ``more than 70`` is 70 to 100 years. Images in Parquet files are written
    once to the folder ``<variant>.images`` of the root; their ids are those of the tables.

    Args:
        root: Folder of the release.
        variant: Margin around the faces, of which a release may have both: ``margin025`` or ``margin125``.
        repair_dates: Read ``3-Sep`` as 3-9 and ``Oct-19`` as 10-19: a spreadsheet has stored the age groups
            as dates. By default this is an error.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: The tables or all images are missing (the message shows the expected tree), a column is
            missing, age groups are dates, a gender or a race is invalid, or ``strict`` and a row was dropped.
    """
    check_choice("variant", variant, get_args(Variant))
    root, report = Path(root), ReadReport(str(root))
    if find_file(root, FILES[0]) or not any(root.rglob("*.parquet")):
        base, rows = _read_tables(root, variant, report)
    else:
        base, rows = root, _read_hub(root, variant, report)
    rows = locate_images(rows, base, report, TREE, "file")
    rows = age_columns.parse(rows.assign(photo=rows["id"]), report, root, repair_dates, None)
    races = {name.lower(): index for index, name in enumerate(RACE_CLASSES)}
    rows = rows.assign(
        gender=parse_words(rows, "gender", _GENDERS, -1, root),
        race=parse_words(rows, "race", races, -1, root),
    )
    return finish_table(
        rows, base, report, "fairface", f"fairface {variant}", strict, race_classes=RACE_CLASSES
    )


def _read_tables(root: Path, variant: Variant, report: ReadReport) -> tuple[Path, pd.DataFrame]:
    base, rows = read_parts(root, _TABLES, ("file", *_COLUMNS), report, TREE)
    folders = [
        path.name for path in sorted(base.iterdir()) if path.is_dir() and "margin" in path.name.lower()
    ]
    chosen = [f"{name}/" for name in folders if variant in name.lower()]
    if folders and not chosen:
        raise expected_tree_error(base, f"no folder of {variant}, only {', '.join(folders)}", TREE)
    return base, rows.assign(id=rows["file"], file="".join(chosen[:1]) + rows["file"])


def _read_hub(root: Path, variant: Variant, report: ReadReport) -> pd.DataFrame:
    files = sorted(root.rglob("*.parquet"))
    margin = f"{variant[6]}.{variant[7:]}"
    files = [file for file in files if margin in file.relative_to(root).as_posix()] or files
    files = [file for file in files if file.name.startswith(("train", "val"))]  # sorted: train before val
    if not files:
        raise expected_tree_error(root, "no train-*.parquet", TREE)
    rows = read_texts(files, _COLUMNS)
    rows = rows.assign(
        file=unpack_images(files, "image", root / f"{variant}.images"),
        split=rows["split"].map({"train": "train", "validation": "test", "val": "test"}),
    )
    number = (rows.groupby("split").cumcount() + 1).astype("str")
    report.read += len(rows)
    return rows.assign(id=rows["split"].map(_FOLDERS) + "/" + number + ".jpg")


class FairFace(FaceDataModule):
    """FairFace: age groups, gender and seven races; faces are cropped, subjects are unknown.

    Args:
        variant: Margin around the faces: ``margin025`` or ``margin125``.
        repair_dates: Restore age groups that a spreadsheet has stored as dates.
        protocol: ``predefined`` trains on the training part and tests on the validation part.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "fairface"
    race_classes = RACE_CLASSES
    age_groups = FAIRFACE_AGE_GROUPS
    protocols = ("predefined", "random", "whole", "train_all")
    expected_tree = TREE

    def __init__(
        self,
        *,
        variant: Variant = "margin025",
        repair_dates: bool = False,
        protocol: str = "predefined",
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.variant: Variant = variant
        self.repair_dates = repair_dates

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_fairface`."""
        return read_fairface(self.root, self.variant, self.repair_dates, self.strict)


class FairFaceDataset(ReleaseDataset):
    """FairFace as a map-style dataset; see :class:`.ReleaseDataset`, :class:`FairFace`."""

    datamodule = FairFace
