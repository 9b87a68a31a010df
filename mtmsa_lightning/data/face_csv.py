"""Any collection of faces that a table describes: one text file with a path and labels per face."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.files import (
    content_column,
    expected_tree_error,
    list_images,
    locate,
    nearest,
    read_delimited,
    sniff,
)
from mtmsa_lightning.data.prepared import is_prepared, read_description, read_frame
from mtmsa_lightning.data.table import FaceTable, ReadReport, make_frame, parse_ages
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUPS, RACES

COLUMNS: tuple[str, ...] = (
    "path", "age", "age_low", "age_high", "gender", "race", "subject", "fold", "split",
)  # fmt: skip
TREE = """
<root>/
  faces.csv  (header: path,age,gender,race,subject,fold,split; or age_low,age_high in place of age)
  ... images, named by the column path relative to <root> ...
"""

_Class = TypeVar("_Class", int, str)

_EXAMPLES = {"path": "file", "age": "years", "age_low": "from", "age_high": "to"}
_GENDERS = {"male": 0, "m": 0, "0": 0, "female": 1, "f": 1, "1": 1}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS |= {"test": "test", "testing": "test"}


def read_face_csv(
    root: str | Path,
    table: str = "faces.csv",
    columns: Mapping[str, str] | None = None,
    *,
    dataset: str = "csv",
    race_classes: Sequence[str] = RACES,
    strict: bool = False,
) -> FaceTable:
    """Read faces from a text table separated by commas, tabs or semicolons.

    Columns: ``path`` (relative to ``root``), ``age`` or the pair ``age_low`` and ``age_high`` (completed
    years, inclusive; the pair wins where both exist; fractions are cut off and noted); optional ``gender``
    (male, female, m, f; or 0 male, 1 female), ``race`` (a name in ``race_classes``), ``subject``, ``fold``
    and ``split`` (train, val, test). Capitals do not matter; an empty cell, or -1, means unknown. Without
    any subject the extra column ``content`` holds the hash of the file's bytes (16 hexadecimal digits; "" for
    a file that cannot be read).

    Args:
        root: Folder of the images.
        table: The table's path, relative to ``root``.
        columns: Names above to the file's own names, for columns that are named otherwise.
        dataset: Name of the dataset, first part of every id.
        race_classes: Race classes in use: a subset of ``labels.RACES``, in that order.
        strict: Raise instead of dropping rows.

    Raises:
        DataError: The table, a column or all images are missing; a gender, race or split is not in the
            vocabulary (a class must never turn into "unknown" by a typing error); or ``strict`` and a row
            was dropped.
    """
    root, path = Path(root), Path(root) / table
    if not path.is_file():
        raise _no_table(root, table)
    report = ReadReport(str(path))
    rows = _read_columns(path, dict(columns or {}), report)
    rows = rows.assign(photo=[_relative(root, text) for text in rows["path"]])
    absent = expected_tree_error(root, f"none of the {len(rows):,} images of {table}", TREE)
    rows = _parse_ages(locate(rows, "photo", list_images(root), report, absent), report)
    rows = _parse_fold(rows, report)
    report.finish(strict)
    races = {name.lower(): index for index, name in enumerate(race_classes)}
    rows = rows.assign(
        id=rows["photo"],
        gender=_parse_words(rows, "gender", _GENDERS, -1, path),
        race=_parse_words(rows, "race", races, -1, path),
        split=_parse_words(rows, "split", _SPLITS, "", path),
    )
    known_subjects = bool((rows["subject"] != "").any())
    if not known_subjects:
        rows = rows.assign(content=content_column(root, rows["path"]))
    frame = make_frame(rows, dataset, extra=() if known_subjects else ("content",))
    return FaceTable(frame, root, dataset, f"{dataset} table columns", tuple(race_classes), report)


def _no_table(root: Path, table: str) -> DataError:
    if not (root.is_dir() and Path(table).is_file()):
        return expected_tree_error(root, f"no {table}", TREE)
    relative = Path(os.path.relpath(table, root)).as_posix()
    return DataError(
        f"no {table} in {root}: looked for {(root / table).as_posix()}; ./{Path(table).as_posix()} exists: "
        f"move it into the root or give its path relative to the root (--data.table {relative})"
    )


def _read_columns(path: Path, names: dict[str, str], report: ReadReport) -> pd.DataFrame:
    """Return all of ``COLUMNS`` but those for age that the file lacks; other absent ones are empty texts."""
    for name in names:
        if name not in COLUMNS:
            raise DataError(f"columns: unknown name {name!r}{nearest(name, COLUMNS)}; known: {COLUMNS}")
    delimiter, present = sniff(path)
    pair = {names.get(name, name).lower() for name in ("age_low", "age_high")} & present
    ages = ("age_low", "age_high") if pair else ("age",)
    for name in ("path", *ages):
        if name not in names and name not in present:
            raise _no_column(path, name, present)
    needed = ["path", *ages, *names]
    optional = [name for name in COLUMNS[4:] if name in present]
    theirs = {name: names.get(name, name) for name in [*needed, *optional]}
    rows = read_delimited(path, delimiter, list(dict.fromkeys(theirs.values())), report)
    absent = {name: "" for name in COLUMNS[4:] if name not in theirs}
    ours = {name: rows[column].str.strip() for name, column in theirs.items()}
    return pd.DataFrame(ours, index=rows.index).assign(**absent)


def _no_column(path: Path, name: str, present: set[str]) -> DataError:
    others = sorted(present.difference(COLUMNS))  # a column that means something else is no near miss
    either = " (nor age_low and age_high)" if name == "age" else ""
    theirs = _EXAMPLES[name]
    return DataError(
        f"{path}: no column {name!r}{either}{nearest(name, others)}; if another column holds it: "
        f"--data.columns '{{{name}: {theirs}}}' (mtmsa prepare: --columns {name}={theirs}); "
        f"the header has {sorted(present)}"
    )


def _relative(root: Path, text: str) -> str:
    """Return a path of the table relative to the root, with forward slashes and without detours."""
    path = posixpath.normpath(text.replace("\\", "/"))
    return posixpath.relpath(path, root.absolute().as_posix()) if path.startswith("/") else path


def _parse_ages(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    low, high = ("age_low", "age_high") if "age_low" in rows else ("age", "age")
    for name in dict.fromkeys((low, high)):
        bad = (rows[name] != "") & parse_ages(rows[name]).isna()
        rows = rows.assign(item=rows["photo"] + f": {name} '" + rows[name] + "'")
        rows = report.drop_rows(rows, bad, "item", f"{name} is no number of years from 0 to 130")
    ages = {"age_low": parse_ages(rows[low]), "age_high": parse_ages(rows[high])}
    fraction = (ages["age_low"] % 1 > 0) | (ages["age_high"] % 1 > 0)
    report.note_rows(rows, fraction, "photo", "age cut to completed years")
    rows = rows.assign(**{name: years // 1 for name, years in ages.items()})
    single = rows["age_low"].isna() != rows["age_high"].isna()
    rows = report.drop_rows(rows, single, "photo", "one of age_low and age_high is empty")
    return report.drop_rows(rows, rows["age_low"] > rows["age_high"], "photo", "age_low is above age_high")


def _parse_fold(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    text = rows["fold"].where(rows["fold"] != "", "-1")
    rows = rows.assign(fold=text)
    rows = report.drop_rows(rows, ~text.str.fullmatch(r"-1|[0-9]{1,6}"), "photo", "fold is no number from 0")
    return rows.assign(fold=rows["fold"].astype("int64"))


def _parse_words(
    rows: pd.DataFrame, column: str, words: Mapping[str, _Class], unknown: _Class, path: Path
) -> list[_Class]:
    known = {**words, "": unknown, "-1": unknown}
    texts = rows[column].str.lower()
    wrong = ~texts.isin(list(known))
    if wrong.any():
        line, text = next(iter(rows.loc[wrong, column].items()))
        allowed = ", ".join(words)
        raise DataError(f"{path}: line {line}: {column} {text!r} is none of {allowed} (or empty: unknown)")
    return [known[text] for text in texts]


def _may_have_race(root: Path, table: Path, columns: Mapping[str, str]) -> bool:
    """Tell whether race may be labelled, from the header alone; also if there is nothing to read yet."""
    if is_prepared(root):
        return bool(read_description(root)["race_classes"])
    try:
        return columns.get("race", "race").lower() in sniff(table)[1]
    except DataError:
        return True


def _default_protocol(root: Path, table: Path, columns: Mapping[str, str]) -> str:
    """Return ``subject_exclusive`` where every row of the table has a subject, else ``random``."""
    try:
        if is_prepared(root):
            rows = read_frame(root / read_description(root)["table"])
        else:
            rows = _read_columns(table, dict(columns), ReadReport(str(table)))
    except (DataError, OSError):  # whoever reads the table in earnest says what is wrong with it
        return "random"
    return "subject_exclusive" if len(rows) and (rows["subject"] != "").all() else "random"


class FaceCSV(FaceDataModule):
    """Your own faces, described by a text table (see :func:`read_face_csv`).

    Args:
        table: Path of the table, relative to ``root``.
        columns: Our column names to the table's own, where they differ.
        dataset_name: Name of the dataset in ids, results and the default root.
        race_classes: Race classes in use, a subset of ``labels.RACES`` in that order. They are none in any
            case where the table, or the prepared set, is there and has no race column: a head needs
            something to learn from.
        age_groups: ``adience`` to decide and report Adience's eight age groups; ``null`` for exact ages.
        protocol: By default ``subject_exclusive`` where every row of the table has a subject, else
            ``random``; ``predefined`` follows the table's own split or fold.
        crop: Side of the central square that is used, as a fraction of the image's shorter side.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "csv"
    protocols = (
        "random", "subject_exclusive", "predefined", "folds", "setting_a", "s1_s2_s3", "whole", "train_all",
    )  # fmt: skip
    expected_tree = TREE

    def __init__(
        self,
        *,
        table: str = "faces.csv",
        columns: dict[str, str] | None = None,
        dataset_name: str = "csv",
        race_classes: tuple[str, ...] = RACES,
        age_groups: Literal["adience"] | None = None,
        protocol: str | None = None,
        crop: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.name = dataset_name  # type: ignore[misc, unused-ignore]  # before the base looks for its root
        super().__init__(protocol=protocol or "random", crop=crop, **kwargs)
        self.table_name = table
        self.columns = columns
        if protocol is None:
            self.protocol = _default_protocol(self.root, self.root / table, columns or {})
        labelled = _may_have_race(self.root, self.root / table, columns or {})
        self.race_classes = tuple(race_classes) if labelled else ()
        self.age_groups = AGE_GROUPS if age_groups == "adience" else ()

    def read(self) -> FaceTable:
        """Read the table at ``root``; see :func:`read_face_csv`."""
        return read_face_csv(
            self.root,
            self.table_name,
            self.columns,
            dataset=self.name,
            race_classes=self.race_classes,
            strict=self.strict,
        )
