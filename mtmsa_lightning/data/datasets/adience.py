"""Adience: 19,487 rows of unfiltered photos in five folds, ages in groups, no race."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import MAX_AGE, FaceTable, ReadReport, make_frame, parse_words
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.release_files import (
    expected_tree_error,
    find_file,
    has_folder,
    list_images,
    locate,
    read_delimited,
)
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUPS, age_group_index

LabelRule = Literal["canonical", "extended"]
Variant = Literal["aligned", "faces"]

FOLDS = 5
FILES = ("fold_0_data.txt",)
TREE = """
<root>/
  fold_0_data.txt ... fold_4_data.txt
  aligned/  (variant aligned)
    <user_id>/landmark_aligned_face.<face_id>.<original_image>
  faces/    (variant faces)
    <user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>
"""

_COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")
_PREFIX = {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}
_GENDERS = {"m": 0, "f": 1, "u": -1}
_GROUPS = {f"({low}, {high})": (low, high) for low, high in AGE_GROUPS}
_CORRECTED = {"(8, 23)": (8, 12), "(27, 32)": (25, 32), "(38, 42)": (38, 43), "(38, 48)": (38, 43)}
_SINGLE_AGES = {str(age): AGE_GROUPS[age_group_index(age)] for age in range(MAX_AGE + 1)}
_RULES: dict[str, Mapping[str, tuple[int, int]]] = {
    "canonical": _GROUPS,
    "extended": _GROUPS | _CORRECTED | _SINGLE_AGES,
}
_AGES = {*_RULES["extended"], "(25, 23)"}


def read_adience(
    root: str | Path,
    label_rule: LabelRule = "canonical",
    variant: Variant = "aligned",
    strict: bool = False,
) -> FaceTable:
    """Read Adience from its five fold files.

    There are two label rules. ``canonical`` keeps rows with one of the eight exact groups, including repeated
    rows: 17,424 rows. ``extended`` also maps single ages to the group of their cell
    (``labels.age_group_index``), corrects four irregular groups, drops (25, 23), and keeps each file once:
    18,550 rows.

    The subject is ``face_id``; no subject is in two folds. ``u`` (infants) and empty genders are unknown.

    Args:
        root: Folder of the release; the fold files may be in a subfolder.
        label_rule: ``canonical`` or ``extended``.
        variant: ``aligned`` (816x816 pixels) or ``faces`` (as detected).
        strict: Raise an error instead of dropping rows. The release itself contains rows without an age.

    Raises:
        DataError: A fold file or all images are missing (the message shows the expected tree), a column is
            missing, a gender is invalid, or ``strict`` and a row was dropped.
    """
    if label_rule not in _RULES or variant not in _PREFIX:
        raise DataError(
            f"adience: label_rule {label_rule!r} must be one of {list(_RULES)}, "
            f"variant {variant!r} one of {list(_PREFIX)}"
        )
    root = Path(root)
    report = ReadReport(str(root))
    first = find_file(root, "fold_0_data.txt")
    folder = first.parent if first else root
    rows = _read_folds(folder, report)
    base = next((place for place in (folder, root) if has_folder(place, variant)), folder)
    rows = _drop_unlabelled(rows, label_rule, report)
    photo = _PREFIX[variant] + "." + rows["face_id"] + "." + rows["original_image"]
    rows = rows.assign(id=variant + "/" + rows["user_id"] + "/" + photo)
    if label_rule == "extended":
        rows = report.drop_rows(rows, rows["id"].duplicated(), "item", "repeated row")
    absent = expected_tree_error(base, f"none of the {len(rows):,} images under {variant}/", TREE)
    rows = locate(rows, "id", list_images(base), report, absent)
    report.finish(strict)
    frame = make_frame(_labels(rows, _RULES[label_rule]), "adience")
    return FaceTable(frame, base, "adience", f"adience {label_rule}", (), report)


def _read_folds(folder: Path, report: ReadReport) -> pd.DataFrame:
    parts: list[pd.DataFrame] = []
    for fold in range(FOLDS):
        path = find_file(folder, f"fold_{fold}_data.txt")
        if path is None:
            raise expected_tree_error(folder, f"no fold_{fold}_data.txt", TREE)
        rows = read_delimited(path, "\t", _COLUMNS, report).apply(lambda cells: cells.str.strip())
        name = path.name + " " + rows["user_id"] + "/" + rows["face_id"] + "." + rows["original_image"]
        ages = rows["age"].str.replace(r"^\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)$", r"(\1, \2)", regex=True)
        sexes = parse_words(rows, "gender", _GENDERS, -1, path)
        parts.append(rows[[*_COLUMNS]].assign(age=ages, sex=sexes, fold=fold, item=name))
    return pd.concat(parts)


def _drop_unlabelled(rows: pd.DataFrame, label_rule: str, report: ReadReport) -> pd.DataFrame:
    rows = report.drop_rows(rows, rows["age"].str.lower().isin(["", "none"]), "item", "no age")
    for text in sorted(set(rows["age"]) & _AGES - set(_RULES[label_rule])):
        rows = report.drop_rows(rows, rows["age"] == text, "item", f"age {text} is not {label_rule}")
    rows = rows.assign(item=rows["item"] + ": age '" + rows["age"] + "'")
    return report.drop_rows(rows, ~rows["age"].isin(_AGES), "item", "age is not a text of the release")


def _labels(rows: pd.DataFrame, ages: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": rows["id"],
            "path": rows["path"],
            "age_low": rows["age"].map({text: low for text, (low, _) in ages.items()}),
            "age_high": rows["age"].map({text: high for text, (_, high) in ages.items()}),
            "gender": rows["sex"],
            "subject": rows["face_id"],
            "fold": rows["fold"],
        }
    )


class Adience(FaceDataModule):
    """Adience: age groups and gender, with the release's own folds 0 to 4.

    Args:
        label_rule: ``canonical`` (eight exact groups) or ``extended`` (see :func:`read_adience`).
        variant: Images of the release: ``aligned`` or ``faces``.
        protocol: The release's own five folds by default.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "adience"
    race_classes = ()
    age_groups = AGE_GROUPS
    protocols = ("folds", "whole", "train_all")
    expected_tree = TREE

    def __init__(
        self,
        *,
        label_rule: LabelRule = "canonical",
        variant: Variant = "aligned",
        protocol: str = "folds",
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.label_rule: LabelRule = label_rule
        self.variant: Variant = variant
        self.prepared_rule = f"adience {label_rule}"

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_adience`."""
        return read_adience(self.root, self.label_rule, self.variant, self.strict)


class AdienceDataset(ReleaseDataset):
    """Adience as a map-style dataset; see :class:`.ReleaseDataset`, :class:`Adience`."""

    datamodule = Adience
