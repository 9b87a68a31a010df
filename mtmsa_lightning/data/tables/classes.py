"""Texts of labels: unknown values, codes with a stated meaning, and classes."""

import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.face_table import parse_words
from mtmsa_lightning.data.release_files import nearest
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import RACES, class_key

log = logging.getLogger(__name__)

UNKNOWN = frozenset({
    "", "-1", "-1.0", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "unknown", "missing", "?", "-",
    "<na>", "nat",
})  # fmt: skip
"""Texts in lower case that mean an unknown label."""

GENDERS = {
    "male": 0, "m": 0, "man": 0, "boy": 0, "female": 1, "f": 1, "woman": 1, "girl": 1,
}  # fmt: skip
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"test": "test", "testing": "test"}
MAPPED: tuple[str, ...] = ("age", "gender", "race", "split")
"""Columns whose texts can be mapped."""

Class = TypeVar("Class", int, str)

_CODE = r"[+-]?[0-9]+(\.[0-9]*)?"


def without_unknown(texts: pd.DataFrame) -> pd.DataFrame:
    """Return texts without surrounding blanks, and empty where they mean "unknown"."""
    known = {}
    for name, cells in texts.items():
        stripped = cells.str.strip()
        known[name] = stripped.mask(stripped.str.lower().isin(UNKNOWN), "")
    return pd.DataFrame(known, texts.index)


def apply_maps(
    rows: pd.DataFrame, maps: Mapping[str, Mapping[Any, Any]], path: Path, names: Collection[str]
) -> pd.DataFrame:
    """Replace texts of labels by their stated meaning; None means unknown.

    Args:
        rows: Texts.
        maps: The meaning of texts (or numbers) by column; a number also matches ``1.0`` for 1.
        path: Path of the table, for messages.
        names: The columns that the table has.

    Raises:
        DataError: A column cannot be mapped, or its meanings are not a mapping.
    """
    for column, meanings in maps.items():
        if column not in MAPPED or not isinstance(meanings, Mapping):
            close = "" if column in MAPPED else nearest(column, MAPPED)
            raise DataError(
                f"labels: {column!r}{close} must be one of {', '.join(MAPPED)} with a map, "
                "e.g. --data.labels '{gender: {0: female, 1: male}}'"
            )
        if column not in names:
            raise DataError(f"{path}: labels: the table has no column of {column} that could be mapped")
        known = {
            _code(str(text), column): "" if each is None else str(each) for text, each in meanings.items()
        }
        replaced = {text: known.get(_code(text, column), text) for text in rows[column].unique()}
        rows = rows.assign(**{column: rows[column].map(replaced)})
    return rows


def warn_unused(rows: pd.DataFrame, maps: Mapping[str, Mapping[Any, Any]], path: Path) -> None:
    """Warn of texts in maps that no row of the table has; arguments as in :func:`apply_maps`."""
    for column, meanings in maps.items():
        texts = rows[column].unique()
        found = {_code(text, column) for text in texts}
        for unused in (str(text) for text in meanings if _code(str(text), column) not in found):
            log.warning("%s: labels: no row has the %s %r%s", path, column, unused, nearest(unused, texts))


def check_codes(texts: "pd.Series[str]", path: Path, names: Sequence[str]) -> None:
    """Raise an error if classes are given as numbers, whose meaning differs between tables.

    Args:
        texts: Texts of a column, named by it, with line numbers as index.
        path: Path of the table, for messages.
        names: Class names for the example.
    """
    codes = texts[texts.str.fullmatch(_CODE).astype(bool)]
    if len(codes):
        line, text = next(iter(codes.items()))
        several = sorted(codes.unique(), key=lambda code: (len(code), code))[: len(names)]
        pairs = ", ".join(f"{code}: {name}" for code, name in zip(several, names, strict=False))
        option = shlex.quote(f"{{{texts.name}: {{{pairs}}}}}")
        raise DataError(
            f"{path}: line {line}: {texts.name} {shown([text])} is a code, whose meaning differs between "
            f"tables: state it, e.g. --data.labels {option}"
        )


def parse_stated(
    rows: pd.DataFrame, column: str, words: Mapping[str, Class], unknown: Class, path: Path
) -> list[Class]:
    """Convert words to classes; the error of :func:`.face_table.parse_words` names the map of meanings."""
    try:
        return parse_words(rows, column, words, unknown, path)
    except DataError as error:
        wrong = rows.loc[~rows[column].str.lower().isin(["", *words]), column].unique()[:5]
        meanings = ", ".join(f"{to_json(text)}: {next(iter(words))}" for text in wrong)
        option = shlex.quote(f"{{{column}: {{{meanings}}}}}")
        raise DataError(f"{error}, or state its meaning, e.g. --data.labels {option}") from error


def class_names(texts: "pd.Series[str]") -> tuple[str, ...]:
    """Return the class names of a column: in the order of ``RACES`` if all are in it, else sorted.

    The most frequent spelling of a name (``labels.class_key``) is used.
    """
    names: dict[str, str] = {}
    for name in texts[texts != ""].value_counts().sort_index(kind="stable").sort_values(
        ascending=False, kind="stable"
    ).index:  # fmt: skip
        names.setdefault(class_key(name), name)
    known = tuple(name for name in RACES if name in names)
    return known if len(known) == len(names) else tuple(sorted(names.values(), key=class_key))


def parse_classes(texts: "pd.Series[str]", names: Sequence[str], path: Path) -> list[int]:
    """Convert class names to indices; an empty text is -1.

    Raises:
        DataError: A text is not in ``names``.
    """
    index = {class_key(name): position for position, name in enumerate(names)} | {"": -1}
    found = {text: index.get(class_key(text)) for text in texts.unique()}
    wrong = texts[texts.isin([text for text, position in found.items() if position is None])]
    if len(wrong):
        line, text = next(iter(wrong.items()))
        option = shlex.quote(f"{{{texts.name}: {{{to_json(text)}: {names[0] if names else None}}}}}")
        raise DataError(
            f"{path}: line {line}: {texts.name} {shown([text])} is not one of {', '.join(names)} (or empty: "
            f"unknown): correct it, or state its meaning, e.g. --data.labels {option}"
        )
    return texts.map(found).tolist()


def _code(text: str, column: str) -> str:
    """Return the form in which texts are compared: whole numbers without fraction, races by ``class_key``."""
    text = text.strip().lower()
    try:
        return str(int(float(text))) if float(text).is_integer() else text
    except ValueError:
        return class_key(text) if column == "race" else text
