"""Faces described by a table with a path and labels per face."""

import logging
import os
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mtmsa_lightning._utils.file_access import find_normalised
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import SCHEMA, FaceTable, ReadReport, check_class_names, make_frame
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.prepared.format import is_prepared, read_description, read_frame
from mtmsa_lightning.data.release_files import (
    REPLACED,
    content_column,
    expected_tree_error,
    hash_ids,
    list_images,
    locate,
)
from mtmsa_lightning.data.remote import is_url, local_copy
from mtmsa_lightning.data.tables import age_columns
from mtmsa_lightning.data.tables.boxes import parse_boxes
from mtmsa_lightning.data.tables.classes import (
    GENDERS,
    SPLITS,
    apply_maps,
    check_codes,
    class_names,
    parse_classes,
    parse_stated,
    warn_unused,
)
from mtmsa_lightning.data.tables.columns import COLUMNS, as_arguments
from mtmsa_lightning.data.tables.missing_images import no_image_error
from mtmsa_lightning.data.tables.rows import TableRows, read_rows, table_files
from mtmsa_lightning.data.tables.scenes import warn_scenes
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.labels import AGE_GROUPS, FAIRFACE_AGE_GROUPS, RACES, class_key

log = logging.getLogger(__name__)

_RESERVED = {"photo", "item", "content", *COLUMNS, *SCHEMA, *BOX}
DEFAULT_TABLE = "faces.csv"
TREE = """
<root>/
  faces.csv  (header: path,age,gender,race,subject,fold,split; or other usual names)
  ... images, named by the column path relative to <root> ...
"""


def read_face_csv(
    root: str | Path,
    table: str = DEFAULT_TABLE,
    columns: Mapping[str, str | None] | None = None,
    *,
    labels: Mapping[str, Mapping[Any, Any]] | None = None,
    repair_dates: bool = False,
    date_format: str | None = None,
    dataset: str = "csv",
    race_classes: Sequence[str] | None = None,
    box_margin: float = 0.0,
    keep: Sequence[str] = (),
    strict: bool = False,
) -> FaceTable:
    """Read faces from a table: a text separated by commas, tabs or semicolons, or parquet.

    Columns have our names or usual ones (``tables.columns.USUAL``), or are named by ``columns``:

    - ``path``, relative to ``root``.
    - ``age`` (``tables.ages.parse_age``); or ``age_low`` and ``age_high``; or ``birth_date`` and
      ``photo_date``. Completed years: fractions are cut off and noted.
    - Optional ``gender``, ``race``, ``subject``, ``fold`` and ``split`` (train, val, test), and a face box
      (``tables.boxes``), which the image is cropped to.

    Case is ignored. A label is missing if its cell is empty, -1, NA or the like (``tables.classes.UNKNOWN``);
    the face keeps its others. Without any subject the extra column ``content`` holds the hash of each file
    (16 hexadecimal digits; "" for a file that cannot be read).

    Args:
        root: Folder of the images; or a URL, see :func:`.remote.local_copy`.
        table: The table's path, relative to ``root``, or a URL of fsspec. Parquet files may be several, given
            by a pattern, and hold the images as bytes, which are unpacked into a folder of ``root`` once.
            Without a ``faces.csv`` it is ``faces.parquet`` or, as on the Hub, ``data/*.parquet``.
        columns: Names above to the file's own names, where these are not usual ones; None for a column that
            is not to be used.
        labels: Meaning of texts or codes by column, e.g. ``{"gender": {0: "female", 1: "male"}}``.
        repair_dates: Restore age groups that a spreadsheet turned into dates, such as 3-9 from ``03-Sep``.
        date_format: Format of birth and photo dates, e.g. ``%d/%m/%Y``, if it is not clear.
        dataset: Name of the dataset, first part of every id.
        race_classes: Race names in index order; by default those of the table: in the order of
            ``labels.RACES`` if all are in it, else sorted.
        box_margin: Margin on each side of the face boxes, as a fraction of the longer side.
        keep: Further columns of the table to keep as texts, e.g. for balanced sampling.
        strict: Raise instead of dropping rows.

    Raises:
        DataError: The table, a column or all images are missing; a column or a date can be read in two ways;
            a label is a code without a stated meaning or not in the vocabulary; a spreadsheet changed age
            groups; or ``strict`` and a row was dropped.
    """
    root = local_copy(str(root))
    path = _table_path(root, table)
    if not table_files(path):
        raise _no_table(root, table)
    report = ReadReport(str(path))
    keep = [name for name in keep if name not in _RESERVED]
    found = read_rows(path, columns or {}, report, root / f"{path.stem.replace('*', '_')}.images", keep)
    found.log_columns()
    _check_used(found, box_margin, date_format)
    rows = apply_maps(found.rows, labels or {}, path, found.names)
    warn_unused(found.rows, labels or {}, path)
    names = _class_names(rows, path) if race_classes is None else tuple(race_classes)
    check_class_names(names, f"{dataset}: race_classes")
    if len(names) == 1:
        log.info("%s: %s is the only race class: there is no race head", path, names[0])
    elif names and race_classes is None and not set(names) <= set(RACES):
        log.info("%s: race classes of the table: %s", path, ", ".join(names))
    rows = _drop_outside(rows.assign(photo=[_relative(root, text) for text in rows["path"]]), root, report)
    listing = list_images(root)
    absent = no_image_error(root, table, rows["path"].tolist(), listing, TREE)
    rows = locate(rows, "photo", listing, report, absent)
    rows = age_columns.parse(rows, report, path, repair_dates, date_format)
    rows = _parse_fold(rows, report)
    boxes = any(name.startswith("box_") for name in found.names)
    if boxes:
        rows = parse_boxes(rows, report, found.names, path, box_margin)
    report.finish(strict)
    rows = rows.assign(
        id=rows["photo"],
        gender=_parse_gender(rows, path),
        race=parse_classes(rows["race"], names, path),
        split=_parse_split(rows, found, path),
    )
    content = boxes or not (rows["subject"] != "").any()
    if content:
        rows = rows.assign(content=_contents(root, rows))
    extra = (
        *(BOX if boxes else ()),
        *(("content",) if content else ()),
        *(name for name in keep if name in rows),
    )
    frame = make_frame(rows, dataset, extra)
    rule = _label_rule(dataset, found, labels or {}, box_margin if boxes else 0.0)
    return FaceTable(frame, root, dataset, rule, names, report)


def _table_path(root: Path, table: str) -> Path:
    """Return the path of a table, which may be a URL; of the default one, that of a parquet table instead."""
    if is_url(table):
        return local_copy(table)
    path = find_normalised(root / table)
    others = (root / name for name in ("faces.parquet", "data/*.parquet"))
    if table == DEFAULT_TABLE and not path.exists():
        return next((other for other in others if table_files(other)), path)
    return path


def _no_table(root: Path, table: str) -> DataError:
    if not (root.is_dir() and Path(table).is_file()):
        return expected_tree_error(root, f"no {table}", TREE)
    relative = Path(os.path.relpath(table, root)).as_posix()
    return DataError(
        f"no {table} in {root}: looked for {(root / table).as_posix()}; ./{Path(table).as_posix()} exists: "
        f"move it into the root or give its path relative to the root (--data.table {relative})"
    )


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


def _check_used(found: TableRows, box_margin: float, date_format: str | None) -> None:
    """Raise an error if a setting is out of its range, or is for columns that the table lacks."""
    if not 0 <= box_margin < 10:
        raise DataError(
            f"data.box_margin {box_margin}: give a fraction of the box's side, 0 or more, e.g. 0.2"
        )
    needs = {"box_margin": (box_margin, "box_left"), "date_format": (date_format, "birth_date")}
    for name, (value, column) in needs.items():
        if value and column not in found.names:
            raise DataError(
                f"{found.path}: data.{name} {value} changes nothing, because the table has no {column}: "
                "leave it out, or name the columns with --data.columns"
            )


def _label_rule(
    dataset: str, found: TableRows, labels: Mapping[str, Mapping[Any, Any]], box_margin: float
) -> str:
    """Return how the labels were made: the stated meanings of codes, dates and boxes, sorted."""
    maps = sorted(
        f"{column}: " + ", ".join(sorted(f"{text} = {meaning}" for text, meaning in each.items()))
        for column, each in labels.items()
    )
    dates = ["ages from dates"] if "birth_date" in found.names else []
    boxes = [f"face boxes, margin {box_margin:g}"] if box_margin else []
    return "; ".join([f"{dataset} table columns", *maps, *dates, *boxes])


def _class_names(rows: pd.DataFrame, path: Path) -> tuple[str, ...]:
    check_codes(rows["race"], path, ("white", "black", "asian"))
    odd = [
        text
        for text in rows["race"].unique()
        if text and not (text.isprintable() and class_key(text) and REPLACED not in text)
    ]
    if odd:
        line = rows.index[rows["race"].isin(odd)][0]
        raise DataError(
            f"{path}: line {line}: race {shown(odd[:1])} is not a name: it needs printable characters, "
            "in a table that is saved as UTF-8"
        )
    return class_names(rows["race"])


def _parse_gender(rows: pd.DataFrame, path: Path) -> list[int]:
    check_codes(rows["gender"], path, ("female", "male"))
    return parse_stated(rows, "gender", GENDERS, -1, path)


def _parse_split(rows: pd.DataFrame, found: TableRows, path: Path) -> list[str]:
    try:
        return parse_stated(rows, "split", SPLITS, "", path)
    except DataError as error:
        if "split" not in found.usual:
            raise
        unused = as_arguments({"split": None})
        raise DataError(f"{error}; if {found.names['split']!r} holds no split: {unused}") from error


def _contents(root: Path, rows: pd.DataFrame) -> list[str]:
    """Return the hashes of the files, and of the boxes: faces of one photo are not copies."""
    files = content_column(root, rows["path"])
    if not set(BOX) <= set(rows):
        return files
    faces = hash_ids(
        f"{file} {box}" for file, box in zip(files, rows[[*BOX]].to_numpy().tolist(), strict=True)
    )
    return [f"{face:016x}" if file else "" for file, face in zip(files, faces.tolist(), strict=True)]


def _parse_fold(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    text = rows["fold"].where(rows["fold"] != "", "-1")
    rows = rows.assign(fold=text)
    bad = ~text.str.fullmatch(r"-1|[0-9]{1,6}")
    rows = report.drop_rows(rows, bad, "photo", "fold is not a number from 0")
    return rows.assign(fold=rows["fold"].astype("int64"))


class FaceCSV(FaceDataModule):
    """Your own faces, described by a table (see :func:`read_face_csv`).

    Args:
        table: Path of the table, relative to ``root``, or a URL.
        columns: Our column names to the table's own, where these are not usual ones; null for a column that
            is not to be used.
        labels: Meaning of texts or codes by column, e.g. ``{gender: {0: female, 1: male}}``.
        repair_dates: Restore age groups that a spreadsheet turned into dates.
        date_format: Format of birth and photo dates, if it is not clear.
        dataset_name: Name of the dataset in ids, results and the default root.
        race_classes: Race names in index order; by default those of the prepared set or of the table, see
            :func:`read_face_csv`. They are ignored if it has no races.
        age_groups: Age groups to predict too: ``adience`` (eight), ``fairface`` (nine), or inclusive pairs
            such as ``[[0, 17], [18, 100]]``; ``null`` for none.
        protocol: By default ``subject_exclusive`` if every row of the table has a subject, else ``random``;
            ``predefined`` uses the table's own split or fold.
        box_margin: Margin on each side of the face boxes, as a fraction of the longer side.
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
        table: str = DEFAULT_TABLE,
        columns: dict[str, str | None] | None = None,
        labels: dict[str, Any] | None = None,
        repair_dates: bool = False,
        date_format: str | None = None,
        dataset_name: str = "csv",
        race_classes: tuple[str, ...] | None = None,
        age_groups: Literal["adience", "fairface"] | list[list[int]] | None = None,
        protocol: str | None = None,
        box_margin: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.name = dataset_name  # type: ignore[misc, unused-ignore]  # before the base looks for its root
        super().__init__(protocol=protocol or "random", **kwargs)
        self.table_name = table
        self.columns = columns
        self.labels = labels
        self.repair_dates = repair_dates
        self.date_format = date_format
        self.box_margin = box_margin
        self.age_groups = _age_groups(age_groups)
        rows, found = self._first_look(checked=race_classes is None)
        if protocol is None:
            self.protocol = _default_protocol(rows)
        self.race_classes = tuple(race_classes) if race_classes is not None and found else found

    def _first_look(self, checked: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the rows and race names of the set or table; empty if they cannot be read.

        With ``checked``, codes and unprintable texts are not race names.
        """
        names: tuple[str, ...] = ()
        try:
            if is_prepared(self.root):
                record = read_description(self.root)
                names = tuple(record["race_classes"])
                return read_frame(self.root / record["table"]), names
            path = _table_path(self.root, self.table_name)
            first = read_rows(path, self.columns or {}, ReadReport(str(path)))
            rows = apply_maps(first.rows, self.labels or {}, path, first.names)
            return rows, _class_names(rows, path) if checked else class_names(rows["race"])
        except (DataError, OSError):  # reported when the table is read
            return pd.DataFrame({"subject": [], "split": []}, dtype="str"), names

    def _report(self) -> None:
        super()._report()
        if not is_prepared(self.root):
            warn_scenes(self.table)

    def read(self) -> FaceTable:
        """Read the table at ``root``; see :func:`read_face_csv`."""
        return read_face_csv(
            self.root,
            self.table_name,
            self.columns,
            labels=self.labels,
            repair_dates=self.repair_dates,
            date_format=self.date_format,
            dataset=self.name,
            race_classes=self.race_classes or None,
            box_margin=self.box_margin,
            keep=self.balance_by,
            strict=self.strict,
        )


def _age_groups(given: str | Sequence[Sequence[int]] | None) -> tuple[tuple[int, int], ...]:
    """Return age groups by name or as given; they must be two or more, increase and not overlap."""
    if given is None or isinstance(given, str):
        return {"adience": AGE_GROUPS, "fairface": FAIRFACE_AGE_GROUPS}.get(given or "", ())
    years = [year for group in given for year in group]
    pairs = len(given) > 1 and all(len(group) == 2 for group in given)
    if not pairs or years != sorted(years) or any(a[1] == b[0] for a, b in pairwise(given)):
        raise ConfigError(
            f"data.age_groups {[*map(list, given)]}: give two or more pairs of ages that increase, e.g. "
            "[[0, 17], [18, 100]]"
        )
    return tuple((low, high) for low, high in given)


def _default_protocol(rows: pd.DataFrame) -> str:
    """Return ``subject_exclusive`` if every row of the table has a subject, else ``random``."""
    if (rows["split"] != "").any():
        log.info("the table's own split is used with --data.protocol predefined")
    known = rows["subject"] != ""
    if len(rows) and known.all():
        return "subject_exclusive"
    if len(rows):
        have = "not every face has a subject" if known.any() else "there are no subjects"
        log.info("protocol random, which splits by image: %s", have)
    return "random"


class FaceCSVDataset(ReleaseDataset):
    """Faces of a text table as a map-style dataset; see :class:`.ReleaseDataset`, :class:`FaceCSV`."""

    datamodule = FaceCSV
