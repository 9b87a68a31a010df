"""Faces described by a text table with a path and labels per face."""

import json
import logging
import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mtmsa_lightning._utils.file_access import find_normalised
from mtmsa_lightning._utils.text import shown
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
from mtmsa_lightning.data.prepared.format import is_prepared, read_description, read_frame
from mtmsa_lightning.data.release_dataset import ReleaseDataset
from mtmsa_lightning.data.table import (
    FaceTable,
    ReadReport,
    check_class_names,
    make_frame,
    parse_ages,
    parse_words,
)
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUPS, RACES, class_key

log = logging.getLogger(__name__)

COLUMNS: tuple[str, ...] = (
    "path", "age", "age_low", "age_high", "gender", "race", "subject", "fold", "split",
)  # fmt: skip
TREE = """
<root>/
  faces.csv  (header: path,age,gender,race,subject,fold,split; or age_low,age_high in place of age)
  ... images, named by the column path relative to <root> ...
"""

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "path": (
        "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path",
        "photo", "picture",
    ),
    "age": ("years", "ages", "real_age", "apparent_age", "age_years", "label_age"),
    "age_low": ("from", "min_age", "age_min", "age_from"),
    "age_high": ("to", "max_age", "age_max", "age_to"),
    "gender": ("sex", "genders"),
    "race": ("ethnicity", "ethnic_group", "ethnic", "races"),
    "subject": (
        "subject_id", "person", "person_id", "identity", "identity_id", "individual", "participant",
        "participant_id", "celebrity", "user_id",
    ),
    "fold": ("folds", "cv_fold", "fold_id"),
    "split": ("subset", "partition", "set", "part"),
}  # fmt: skip
"""Common names of the ``COLUMNS`` in other tables; the first is used as an example."""
_GENDERS = {"male": 0, "m": 0, "0": 0, "female": 1, "f": 1, "1": 1}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS |= {"test": "test", "testing": "test"}


def read_face_csv(
    root: str | Path,
    table: str = "faces.csv",
    columns: Mapping[str, str] | None = None,
    *,
    dataset: str = "csv",
    race_classes: Sequence[str] | None = None,
    strict: bool = False,
) -> FaceTable:
    """Read faces from a text table separated by commas, tabs or semicolons.

    Columns: ``path`` (relative to ``root``), ``age`` or the pair ``age_low`` and ``age_high`` (completed
    years, inclusive; the pair has precedence; fractions are cut off and noted); optional ``gender`` (male,
    female, m, f; or 0 male, 1 female), ``race`` (a name in ``race_classes``), ``subject``, ``fold`` and
    ``split`` (train, val, test). Case is ignored; an empty cell, or -1, means unknown. A similar column with
    another name is not used; a warning shows how to use it. Without any subject the extra column ``content``
    holds the hash of each file (16 hexadecimal digits; "" for a file that cannot be read).

    Args:
        root: Folder of the images.
        table: The table's path, relative to ``root``.
        columns: Names above to the file's own names, where they differ.
        dataset: Name of the dataset, first part of every id.
        race_classes: Race names in index order; by default those of the table: in the order of
            ``labels.RACES`` if all are in it, else sorted.
        strict: Raise instead of dropping rows.

    Raises:
        DataError: The table, a column or all images are missing; a gender, race or split is not in the
            vocabulary; or ``strict`` and a row was dropped.
    """
    root, path = Path(root), find_normalised(Path(root) / table)
    if not path.is_file():
        raise _no_table(root, table)
    report = ReadReport(str(path))
    rows = _read_columns(path, dict(columns or {}), report)
    _warn_unused(path, dict(columns or {}))
    rows = _drop_outside(rows.assign(photo=[_relative(root, text) for text in rows["path"]]), root, report)
    absent = expected_tree_error(root, f"none of the {len(rows):,} images of {table}", TREE)
    rows = _parse_ages(locate(rows, "photo", list_images(root), report, absent), report)
    rows = _parse_fold(rows, report)
    report.finish(strict)
    races = _classes_of(rows["race"], path) if race_classes is None else tuple(race_classes)
    check_class_names(races, f"{dataset}: race_classes")
    rows = rows.assign(
        id=rows["photo"],
        gender=parse_words(rows, "gender", _GENDERS, -1, path),
        race=_parse_classes(rows, "race", races, path),
        split=parse_words(rows, "split", _SPLITS, "", path),
    )
    known_subjects = bool((rows["subject"] != "").any())
    if not known_subjects:
        rows = rows.assign(content=content_column(root, rows["path"]))
    frame = make_frame(rows, dataset, extra=() if known_subjects else ("content",))
    return FaceTable(frame, root, dataset, f"{dataset} table columns", races, report)


def _classes_of(texts: "pd.Series[str]", path: Path) -> tuple[str, ...]:
    """Return the race names of a column: in the order of ``RACES`` if all are in it, else sorted."""
    counts = texts[texts != ""].value_counts()
    numbers = texts[texts.str.fullmatch(r"[0-9.]+")]
    if len(numbers):
        line, text = next(iter(numbers.items()))
        raise DataError(f"{path}: line {line}: race {shown([text])} is a number, not the name of a race")
    names: dict[str, str] = {}  # the most frequent spelling of each
    for name in counts.index:
        names.setdefault(class_key(name), name)
    known = tuple(name for name in RACES if name in names)
    found = known if len(known) == len(names) else tuple(sorted(names.values(), key=class_key))
    if found != known:
        log.info("%s: race classes of the table: %s", path, ", ".join(found))
    return found


def _parse_classes(rows: pd.DataFrame, column: str, names: Sequence[str], path: Path) -> list[int]:
    keys = {name: class_key(name) for name in rows[column].unique()}
    spelt = rows.assign(**{column: rows[column].map(keys)})
    wrong = ~spelt[column].isin(["", *map(class_key, names)])
    if wrong.any():
        line, text = next(iter(rows.loc[wrong.to_numpy(bool), column].items()))
        raise DataError(
            f"{path}: line {line}: {column} {shown([text])} is none of {', '.join(names)} (or empty: unknown)"
        )
    index = {class_key(name): position for position, name in enumerate(names)} | {"": -1}
    return [index[key] for key in spelt[column]]


def _no_table(root: Path, table: str) -> DataError:
    if not (root.is_dir() and Path(table).is_file()):
        return expected_tree_error(root, f"no {table}", TREE)
    relative = Path(os.path.relpath(table, root)).as_posix()
    return DataError(
        f"no {table} in {root}: looked for {(root / table).as_posix()}; ./{Path(table).as_posix()} exists: "
        f"move it into the root or give its path relative to the root (--data.table {relative})"
    )


def _read_columns(path: Path, names: dict[str, str], report: ReadReport) -> pd.DataFrame:
    """Return the ``COLUMNS``, without age columns that the file lacks; other missing columns are empty."""
    for name in names:
        if name not in COLUMNS:
            raise DataError(f"columns: unknown name {name!r}{nearest(name, COLUMNS)}; known: {COLUMNS}")
    delimiter, header = sniff(path)
    present = {name.lower() for name in header}
    pair = {names.get(name, name).lower() for name in ("age_low", "age_high")} & present
    ages = ("age_low", "age_high") if pair else ("age",)
    for name in ("path", *ages):
        if name not in names and name not in present:
            raise _no_column(path, name, header, names)
    needed = ["path", *ages, *names]
    optional = [name for name in COLUMNS[4:] if name in present]
    theirs = {name: names.get(name, name) for name in [*needed, *optional]}
    rows = read_delimited(path, delimiter, list(dict.fromkeys(theirs.values())), report)
    absent = {name: "" for name in COLUMNS[4:] if name not in theirs}
    ours = pd.DataFrame({name: rows[column].str.strip() for name, column in theirs.items()}, rows.index)
    labels = ours.drop(columns="path").replace("-1", "")
    return labels.assign(path=ours["path"], **absent)


def _no_column(path: Path, name: str, header: Sequence[str], names: Mapping[str, str]) -> DataError:
    either = " (nor age_low and age_high)" if name == "age" else ""
    theirs = next(iter(_lookalikes(header, [name]).values()), None)
    if theirs:
        seems = f"{shown([theirs])} looks like it"
    else:
        others = (column for column in header if column.lower() not in COLUMNS)
        seems = f"if another column holds it{nearest(name, others)}"
    return DataError(
        f"{path}: no column {name!r}{either}; {seems}: "
        f"{_as_arguments({**names, name: theirs or _SYNONYMS[name][0]})}; the header has [{shown(header)}]"
    )


def _warn_unused(path: Path, names: Mapping[str, str]) -> None:
    """Warn about unused columns that look like labels."""
    header = sniff(path)[1]
    lower = {name.lower() for name in header}
    ages = {"age", "age_low", "age_high"}
    ages = ages if ages & {*lower, *names} else set()
    unset = [name for name in COLUMNS if name not in {*names, *lower, *ages}]
    found = _lookalikes([name for name in header if name not in names.values()], unset)
    if found:
        log.warning(
            "%s: %s not used, which may hold %s: %s",
            path, shown([*found.values()]), " and ".join(found), _as_arguments({**names, **found}),
        )  # fmt: skip


def _lookalikes(header: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Return the first similar column of a header for each name that has one."""
    plain = {re.sub(r"[\s-]+", "_", column.lower()): column for column in reversed([*header])}
    found: dict[str, str] = {}
    for name in names:
        same = next((plain[text] for text in (name, *_SYNONYMS[name]) if text in plain), None)
        if same is not None:
            found[name] = same
    return found


def _as_arguments(names: Mapping[str, str]) -> str:
    """Return the command line arguments for these names of columns."""
    texts = {
        name: text if re.fullmatch(r"[A-Za-z_]\w*", text) else json.dumps(text)
        for name, text in names.items()
    }
    mapping = "{" + ", ".join(f"{name}: {text}" for name, text in texts.items()) + "}"
    pairs = shlex.join(f"{ours}={theirs}" for ours, theirs in names.items())
    return f"--data.columns {shlex.quote(mapping)} (or --columns {pairs})"


def _relative(root: Path, text: str) -> str:
    """Return a normalised path relative to the root, with forward slashes.

    An absolute path outside the root is returned unchanged.
    """
    path = posixpath.normpath(text.replace("\\", "/"))
    if path.startswith("/"):
        for folder in (root.absolute(), root.resolve()):
            if path.startswith(f"{folder.as_posix().rstrip('/')}/"):
                return posixpath.relpath(path, folder.as_posix())
    return path


def _drop_outside(rows: pd.DataFrame, root: Path, report: ReadReport) -> pd.DataFrame:
    """Drop rows without a path, or with an absolute path outside the root.

    Raises:
        DataError: All paths are outside; the message names their common folder.
    """
    outside = rows["photo"].str.match(r"/|[A-Za-z]:/").astype(bool)
    if outside.all():
        paths = rows["photo"].tolist()
        common = posixpath.commonpath(paths) if all(path.startswith("/") for path in paths) else ""
        folder = common if len(paths) > 1 else posixpath.dirname(common)
        use = f" --data.root {shlex.quote(folder)} and the table's path relative to it (--data.table)"
        raise DataError(
            f"{report.source}: all paths are absolute and outside the root {root}, such as "
            f"{shown(paths[:1])}: give a root that contains them"
            + (f", e.g.{use}" if len(folder) > 1 else "")
            + ", or paths relative to the root"
        )
    rows = report.drop_rows(rows, outside, "photo", "absolute path outside the root")
    return report.drop_rows(rows, rows["path"] == "", "path", "no path")


def _parse_ages(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    low, high = ("age_low", "age_high") if "age_low" in rows else ("age", "age")
    for name in dict.fromkeys((low, high)):
        bad = (rows[name] != "") & parse_ages(rows[name]).isna()
        rows = rows.assign(item=rows["photo"] + f": {name} '" + rows[name] + "'")
        rows = report.drop_rows(rows, bad, "item", f"{name} is not a number from 0 to 130")
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
    bad = ~text.str.fullmatch(r"-1|[0-9]{1,6}")
    rows = report.drop_rows(rows, bad, "photo", "fold is not a number from 0")
    return rows.assign(fold=rows["fold"].astype("int64"))


def _races_of(root: Path, table: Path, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return the race names of a prepared set or a table; none if it cannot be read."""
    if is_prepared(root):
        return tuple(read_description(root)["race_classes"])
    path = find_normalised(table)
    try:
        return _classes_of(_read_columns(path, dict(columns), ReadReport(str(path)))["race"], path)
    except DataError:  # reported when the table is read
        return ()


def _default_protocol(root: Path, table: Path, columns: Mapping[str, str]) -> str:
    """Return ``subject_exclusive`` if every row of the table has a subject, else ``random``."""
    try:
        if is_prepared(root):
            rows = read_frame(root / read_description(root)["table"])
        else:
            rows = _read_columns(find_normalised(table), dict(columns), ReadReport(str(table)))
    except (DataError, OSError):  # reported when the table is read
        return "random"
    known = rows["subject"] != ""
    if len(rows) and known.all():
        return "subject_exclusive"
    have = "not every face has a subject" if known.any() else "there are no subjects"
    log.info("protocol random, which splits by image: %s", have)
    return "random"


class FaceCSV(FaceDataModule):
    """Your own faces, described by a text table (see :func:`read_face_csv`).

    Args:
        table: Path of the table, relative to ``root``.
        columns: Our column names to the table's own, where they differ.
        dataset_name: Name of the dataset in ids, results and the default root.
        race_classes: Race names in index order; by default those of the prepared set or of the table, see
            :func:`read_face_csv`. They are ignored if it has no races.
        age_groups: ``adience`` for predictions of Adience's eight age groups; ``null`` for none.
        protocol: By default ``subject_exclusive`` if every row of the table has a subject, else ``random``;
            ``predefined`` uses the table's own split or fold.
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
        race_classes: tuple[str, ...] | None = None,
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
        found = _races_of(self.root, self.root / table, columns or {})
        self.race_classes = tuple(race_classes) if race_classes is not None and found else found
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


class FaceCSVDataset(ReleaseDataset):
    """Faces of a text table as a map-style dataset; see :class:`.ReleaseDataset`, :class:`FaceCSV`."""

    datamodule = FaceCSV
