"""The columns of a table of faces, by given, own or usual names."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.release_files import nearest
from mtmsa_lightning.data.tables.boxes import EDGES, box_columns
from mtmsa_lightning.errors import DataError

USUAL: dict[str, tuple[str, ...]] = {
    "path": (
        "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path",
        "image_name", "img_name", "image_file", "photo", "picture",
    ),
    "age": (
        "years", "ages", "real_age", "apparent_age", "age_years", "label_age", "age_group", "age_range",
    ),
    "age_low": ("from", "min_age", "age_min", "age_from"),
    "age_high": ("to", "max_age", "age_max", "age_to"),
    "birth_date": ("dob", "birthdate", "birthday", "date_of_birth", "born", "birth", "birth_year"),
    "photo_date": ("doa", "photo_taken", "date_taken", "taken", "capture_date", "photo_year"),
    "gender": ("sex", "genders"),
    "race": ("ethnicity", "ethnic_group", "ethnic", "races"),
    "subject": (
        "subject_id", "person", "person_id", "identity", "identity_id", "individual", "participant",
        "participant_id", "celebrity", "user_id", "id",
    ),
    "fold": ("folds", "cv_fold", "fold_id"),
    "split": ("subset", "partition", "set", "part"),
}  # fmt: skip
"""Our names of columns, and their usual names in other tables; the first is used as an example."""

COLUMNS: tuple[str, ...] = (*USUAL, *EDGES)

_AGES = (("age_low", "age_high"), ("age",), ("birth_date", "photo_date"))
"""Columns with the age, by precedence among columns with our own or given names."""


def choose_columns(
    header: Sequence[str], given: Mapping[str, str | None], path: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Choose the columns of a table.

    A column is found by its given name, else by our own name, else by its one usual name; without case, and
    with blanks and ``-`` as ``_``.

    Args:
        header: Names of the table's columns.
        given: Our names to the table's own; None for a column that the table does not have.
        path: Path of the table, for messages.

    Returns:
        The table's names by ours, and those of them that were found by a usual name.

    Raises:
        DataError: A given name is not ours, several columns may hold one thing, or there is no column of
            paths or ages.
    """
    for name in given:
        if name not in COLUMNS:
            raise DataError(f"columns: unknown name {name!r}{nearest(name, COLUMNS)}; known: {COLUMNS}")
    stated = {name: theirs for name, theirs in given.items() if theirs}
    free = [name for name in header if name.lower() not in {theirs.lower() for theirs in stated.values()}]
    exact = {name.lower(): name for name in reversed(free)}
    own = stated | {name: exact[name] for name in USUAL if name in exact and name not in given}
    found = {name: _usual(free, name) for name in USUAL if name not in {*own, *given}}
    ages = _age_columns(own, found, path, given)
    skipped = {name for names in _AGES for name in names} - {*ages}
    usual = {
        name: _only(name, theirs, path, given)
        for name, theirs in found.items()
        if theirs and name not in skipped
    }
    boxes = {} if any(edge in given for edge in EDGES) else box_columns(free, path)
    chosen = {name: theirs for name, theirs in own.items() if name not in skipped} | usual | boxes
    if "path" not in chosen:
        raise _no_column(path, "path", header, given)
    missing = [name for name in ages if name not in chosen]
    if missing or not ages:
        raise _no_column(path, missing[0] if missing else "age", header, given)
    return chosen, usual | {name: theirs for name, theirs in boxes.items() if name != theirs.lower()}


def as_arguments(names: Mapping[str, str | None]) -> str:
    """Return the command line arguments for these names of columns."""
    texts = {
        name: "null" if text is None else text if re.fullmatch(r"[A-Za-z_]\w*", text) else to_json(text)
        for name, text in names.items()
    }
    mapping = "{" + ", ".join(f"{name}: {text}" for name, text in texts.items()) + "}"
    pairs = shlex.join(f"{ours}={theirs or ''}" for ours, theirs in names.items())
    return f"--data.columns {shlex.quote(mapping)} (or --columns {pairs})"


def _usual(header: Sequence[str], name: str) -> list[str]:
    """Return the columns that have a usual name of one of our columns."""
    names = {name, *USUAL[name]}
    return [column for column in header if re.sub(r"[\s-]+", "_", column.strip().lower()) in names]


def _only(name: str, theirs: Sequence[str], path: Path, given: Mapping[str, str | None]) -> str:
    """Return the only candidate, or the only one but ``id``, which often numbers the rows."""
    theirs = [each for each in theirs if each.lower() != "id"] or theirs
    if len(theirs) > 1:
        raise DataError(
            f"{path}: both {shown(theirs[:1])} and {shown(theirs[1:2])} may hold {name}: choose one: "
            f"{as_arguments({**given, name: theirs[0]})}"
        )
    return theirs[0]


def _age_columns(
    own: Mapping[str, str],
    found: Mapping[str, list[str]],
    path: Path,
    given: Mapping[str, str | None],
) -> tuple[str, ...]:
    """Return our names of the columns with the age; empty if there are none."""
    for names in _AGES:
        if any(name in own for name in names):
            return names
    whole = [names for names in _AGES if all(found.get(name) for name in names)]
    if len(whole) > 1 and whole[-1] != _AGES[-1]:
        pair, age = found["age_low"][0], found["age"][0]
        raise DataError(
            f"{path}: both {shown([pair])} and {shown([age])} may hold the age: choose one: "
            f"{as_arguments({**given, 'age': age})}"
        )
    births = _AGES[-1] if found.get("birth_date") else ()  # alone it gives no age
    return whole[0] if whole else births


def _no_column(path: Path, name: str, header: Sequence[str], names: Mapping[str, str | None]) -> DataError:
    either = " (nor age_low and age_high, nor birth_date and photo_date)" if name == "age" else ""
    close = nearest(name, (column for column in header if column.lower() not in COLUMNS))
    return DataError(
        f"{path}: no column {name!r}{either}; if another column holds it{close}: "
        f"{as_arguments({**names, name: USUAL[name][0]})}; the header has [{shown(header)}]"
    )
