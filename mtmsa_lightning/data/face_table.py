"""The face table, to which every dataset is converted, and the report of its reading."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.errors import DataError, shorten
from mtmsa_lightning.labels import GENDERS, class_key

SCHEMA: dict[str, str] = {
    "id": "str",
    "path": "str",
    "age_low": "float64",
    "age_high": "float64",
    "gender": "int64",
    "race": "int64",
    "subject": "str",
    "fold": "int64",
    "split": "str",
    "dataset": "str",
}
"""Columns of a face table in order, with their dtypes; a dataset may add columns after them."""

MAX_AGE = 130
"""Highest allowed age label, in completed years."""

SPLITS: tuple[str, ...] = ("train", "val", "test")
"""Values of the column ``split``, in addition to the empty text."""

_DEFAULTS: dict[str, int | str] = {"gender": -1, "race": -1, "subject": "", "fold": -1, "split": ""}
_Class = TypeVar("_Class", int, str)

_SHOWN = 10


class Remark(NamedTuple):
    """A dropped or noted row of a release: its line, its name and the reason."""

    line: int
    item: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {shorten(self.item, 200)}: {self.reason}"


@dataclass
class ReadReport:
    """Report of reading a dataset: numbers of rows, dropped rows and notes.

    Attributes:
        source: The file or folder that was read.
        read: Number of data rows (or files), good and bad.
        dropped: Rows that could not be read or labelled; ``line`` is the line in the file, or the position
            in the sorted listing (from 1) for a dataset without a table.
        notes: Remarks on rows that were kept.
    """

    source: str
    read: int = 0
    dropped: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)

    @property
    def kept(self) -> int:
        """Number of rows that were read and not dropped."""
        return self.read - len(self.dropped)

    def drop(self, line: int, item: str, reason: str) -> None:
        """Record a dropped row."""
        self.dropped.append(Remark(line, item, reason))

    def note(self, line: int, item: str, reason: str) -> None:
        """Record a remark on a row that is kept."""
        self.notes.append(Remark(line, item, reason))

    def drop_rows(self, rows: pd.DataFrame, bad: "pd.Series[bool]", item: str, reason: str) -> pd.DataFrame:
        """Record the rows marked ``bad`` as dropped and return the others.

        Args:
            rows: Rows with line numbers as index.
            bad: True for the rows to drop, in the order of ``rows``.
            item: Column with the name of a row for the report.
            reason: Reason for dropping; equal reasons are counted together.
        """
        self.dropped += _remarks(rows, bad, item, reason)
        return rows.loc[~bad.to_numpy(bool)].copy()

    def note_rows(self, rows: pd.DataFrame, odd: "pd.Series[bool]", item: str, reason: str) -> None:
        """Record a remark on the rows marked ``odd``; arguments as in :meth:`drop_rows`."""
        self.notes += _remarks(rows, odd, item, reason)

    def reasons(self) -> Counter[str]:
        """Count the dropped rows by reason."""
        return Counter(remark.reason for remark in self.dropped)

    def finish(self, strict: bool) -> None:
        """Check the report at the end of reading.

        Raises:
            DataError: No row was kept, or ``strict`` and a row was dropped. The message is the report.
        """
        if self.kept == 0:
            raise DataError(f"no usable face: {self}")
        if strict and self.dropped:
            raise DataError(f"strict reading allows no dropped row: {self}")

    def __str__(self) -> str:
        lines = [f"{self.source}: read {self.read:,}, kept {self.kept:,}, {_tally('dropped', self.dropped)}"]
        lines += [f"  {remark}" for remark in sorted(self.dropped)[:_SHOWN]]
        if len(self.dropped) > _SHOWN:
            lines.append(f"  ... and {len(self.dropped) - _SHOWN:,} more")
        if self.notes:
            lines.append(_tally("kept with a remark", self.notes))
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class FaceTable:
    """A dataset as one validated table of faces.

    Columns (``SCHEMA``), in this order, extra ones after them:

    - ``id``: dataset name and path inside the original release, such as ``morph/Album2/000001_0M25.JPG``:
      unique, and equal on every machine. Repeated rows of a release get the suffix ``#2``, ``#3`` ...
    - ``path``: path of the image, relative to ``root``, with forward slashes.
    - ``age_low``, ``age_high``: inclusive age in completed years, 0 to 130; an exact age has both equal, an
      unknown age has ``NaN`` in both.
    - ``gender``: index in ``labels.GENDERS``, -1 unknown. ``race``: index in ``race_classes``, -1 unknown.
    - ``subject``: the person, "" unknown. ``fold``: the release's own fold, -1 none. ``split``: ``train``,
      ``val``, ``test`` or "".
    - ``dataset``: name of the dataset.

    Attributes:
        frame: The table; rows are addressed by position.
        root: Folder to which ``path`` is relative.
        dataset: Name of the dataset.
        label_rule: Description of how the labels were made, in one line; recorded with every result.
        race_classes: Race names in index order, distinct in ``labels.class_key``; empty if race is not
            labelled.
        report: Report of the reader.
        cleaning: Applied cleaning rules with their versions, in order (``data.splits.cleaning``).

    Raises:
        DataError: The frame does not match the schema; the message names the column and the first bad rows.
    """

    frame: pd.DataFrame
    root: Path
    dataset: str
    label_rule: str
    race_classes: tuple[str, ...]
    report: ReadReport
    cleaning: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.validate()

    def __len__(self) -> int:
        return len(self.frame)

    def validate(self) -> None:
        """Check columns, dtypes and values against the schema.

        Raises:
            DataError: The message names the column and at most ten bad rows.
        """
        check_class_names(self.race_classes, f"{self.dataset}: race classes")
        self._check_columns()
        for column, problem, bad in _problems(self.frame):
            self._check(column, problem, bad)
        outside = ~self.frame["race"].between(-1, len(self.race_classes) - 1)
        self._check("race", f"not an index of {self.race_classes}", outside)

    def _check_columns(self) -> None:
        if list(self.frame.columns[: len(SCHEMA)]) != list(SCHEMA):
            raise DataError(
                f"{self.dataset}: columns {list(self.frame.columns)} do not start with {list(SCHEMA)}"
            )
        for column, dtype in SCHEMA.items():
            actual = self.frame[column].dtype
            if dtype == "str":
                self._check(column, "missing text", self.frame[column].isna())
            fits = pd.api.types.is_string_dtype(self.frame[column]) if dtype == "str" else actual == dtype
            if not fits and len(self.frame):
                raise DataError(f"{self.dataset}: column {column!r}: dtype {actual}, expected {dtype}")

    def _check(self, column: str, problem: str, bad: "pd.Series[bool]") -> None:
        if not bad.any():
            return
        rows = np.flatnonzero(bad.to_numpy(bool))
        values = self.frame[column].to_numpy(object)
        ids = self.frame["id"].to_numpy(object)
        named = [f"row {row} ({shorten(ids[row], 100)}): {shown([values[row]])}" for row in rows[:_SHOWN]]
        more = f"; and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        raise DataError(f"{self.dataset}: column {column!r}: {problem}: {'; '.join(named)}{more}")


def check_class_names(names: Sequence[str], what: str) -> None:
    """Raise an error if class names are not distinct, printable texts (``labels.class_key``).

    Raises:
        DataError: The message starts with ``what``.
    """
    odd = [name for name in names if not (name == name.strip() and name.isprintable() and class_key(name))]
    if odd:
        raise DataError(f"{what}: {shown(odd)}: a name needs printable characters, none of them blank ends")
    keys = Counter(map(class_key, names))
    same = [name for name in names if keys[class_key(name)] > 1]
    if same:
        raise DataError(f"{what}: {shown(same)} are one name: case, blanks, _ and - make no difference")


def make_frame(rows: pd.DataFrame, dataset: str, extra: Sequence[str] = ()) -> pd.DataFrame:
    """Convert a reader's rows to the schema of :class:`FaceTable`.

    Args:
        rows: Columns named as in the schema; missing columns get the value for "unknown". ``id`` holds the
            path inside the release: the dataset's name is prepended and repeated ids are numbered.
        dataset: Name of the dataset.
        extra: Columns of ``rows`` to keep after those of the schema.
    """
    absent = {name: value for name, value in _DEFAULTS.items() if name not in rows}
    frame = rows.reset_index(drop=True).assign(**absent, dataset=dataset)
    ids = dataset + "/" + frame["id"].astype("str")
    repeat = ids.groupby(ids).cumcount()
    frame["id"] = ids.where(repeat == 0, ids + "#" + (repeat + 1).astype("str"))
    return frame[[*SCHEMA, *extra]].astype(SCHEMA)


def parse_ages(texts: "pd.Series[str]") -> "pd.Series[float]":
    """Convert texts to ages in years; NaN for anything but a number from 0 to 130.

    Only digits with an optional decimal fraction are valid: no sign and no exponent.
    """
    legal = texts.str.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?").astype(bool)
    ages = pd.to_numeric(texts.where(legal), errors="coerce").astype("float64")
    return ages.where(ages.between(0, MAX_AGE))


def parse_words(
    rows: pd.DataFrame, column: str, words: Mapping[str, _Class], unknown: _Class, path: Path
) -> list[_Class]:
    """Convert the words of a column to classes, ignoring case; an empty cell means unknown.

    Args:
        rows: Rows with line numbers as index.
        column: The column.
        words: Classes by word, in lower case.
        unknown: Class of an empty cell.
        path: Path of the table, for the error message.

    Raises:
        DataError: A word is not in ``words``; a typing error must not become "unknown".
    """
    known = {**words, "": unknown}
    texts = rows[column].str.lower()
    wrong = ~texts.isin(list(known))
    if wrong.any():
        line, text = next(iter(rows.loc[wrong.to_numpy(bool), column].items()))
        allowed = ", ".join(word for word in words if word)
        raise DataError(
            f"{path}: line {line}: {column} {shown([text])} is not one of {allowed} (or empty: unknown)"
        )
    return [known[text] for text in texts]


def label_kinds(table: pd.DataFrame) -> set[str]:
    """Return the kinds of labels in a table: ``age``, ``exact`` and ``group`` ages, ``gender``, ``race``."""
    known = table["age_low"].notna()
    exact = table["age_low"] == table["age_high"]
    present = {
        "age": known.any(),
        "exact": (known & exact).any(),
        "group": (known & ~exact).any(),
        "gender": (table["gender"] >= 0).any(),
        "race": (table["race"] >= 0).any(),
    }
    return {kind for kind, there in present.items() if there}


def classes_with_faces(
    table: pd.DataFrame, gender_classes: Sequence[str], race_classes: Sequence[str]
) -> dict[str, list[str]]:
    """Return by task the names of the classes that have a face in a table."""
    names = {"gender": gender_classes, "race": race_classes}
    return {task: [each[i] for i in sorted(set(table[task])) if i >= 0] for task, each in names.items()}


def _remarks(rows: pd.DataFrame, marked: "pd.Series[bool]", item: str, reason: str) -> list[Remark]:
    found = rows.loc[marked.to_numpy(bool), item]
    return [Remark(int(line), str(name), reason) for line, name in zip(found.index, found, strict=True)]


def _tally(label: str, remarks: list[Remark]) -> str:
    counts = Counter(remark.reason for remark in remarks).most_common()
    detail = ", ".join(f"{reason} x{count:,}" for reason, count in counts)
    return f"{label} {len(remarks):,}" + (f": {detail}" if detail else "")


def _problems(frame: pd.DataFrame) -> Iterator[tuple[str, str, "pd.Series[bool]"]]:
    """Yield each check as column, problem and bad rows, in order."""
    yield "id", "empty", frame["id"] == ""
    yield "id", "not unique", frame["id"].duplicated(keep=False)
    path = frame["path"]
    yield "path", "empty", path == ""
    yield "path", "not relative with forward slashes", path.str.startswith("/") | path.str.contains(r"\\")
    low, high = frame["age_low"], frame["age_high"]
    for name, ages in (("age_low", low), ("age_high", high)):
        whole = ages.between(0, MAX_AGE) & (ages % 1 == 0)
        yield name, f"not a whole number from 0 to {MAX_AGE}", ages.notna() & ~whole
    yield "age_low", "one bound without the other", low.isna() != high.isna()
    yield "age_low", "above age_high", low > high
    yield "gender", f"not an index of {GENDERS}", ~frame["gender"].between(-1, len(GENDERS) - 1)
    yield "fold", "below -1", frame["fold"] < -1
    yield "split", f"not one of {SPLITS} or empty", ~frame["split"].isin(["", *SPLITS])
    yield "dataset", "empty", frame["dataset"] == ""
