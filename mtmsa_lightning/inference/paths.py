"""Check and expand paths without heavy imports."""

import glob
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning._utils.image_formats import is_image
from mtmsa_lightning.errors import DataError

TABLES = (".csv", ".tsv")  # endings of the tables that list images in a column ``path``

_NO_MATCH = "the pattern matches no image, folder or table"


def check_there(path: str) -> None:
    """Raise DataError if a path does not exist, or a pattern matches nothing."""
    if Path(path).exists():
        return
    if not glob.has_magic(path):
        raise DataError(f"{path}: no such file or folder")
    if next(glob.iglob(path, recursive=True), None) is None:  # noqa: PTH207  # keeps the path as given
        raise DataError(f"{path}: {_NO_MATCH}")


def matches(path: str) -> tuple[list[str], list[str]]:
    """Return a path itself, or the matches of a pattern such as ``photos/**/*.jpg``.

    The second list has the matches that are neither images nor folders nor tables.

    Raises:
        DataError: The path does not exist, or its name is not valid UTF-8.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path!r}: the name is not valid UTF-8: rename the file") from None
    check_there(path)
    if Path(path).exists():
        return [path], []
    used: list[str] = []
    others: list[str] = []
    for match in sorted(glob.glob(path, recursive=True)):  # noqa: PTH207  # keeps the path as given
        (used if _counts(Path(match)) else others).append(match)
    if not used:
        raise DataError(f"{path}: {_NO_MATCH}, only {first_names(others)}")
    return used, others


def first_names(names: Sequence[str], most: int = 2) -> str:
    """Return the first names, with an ellipsis if there are more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def _counts(path: Path) -> bool:
    """Return whether a match of a pattern is an input."""
    return path.is_dir() or path.suffix.lower() in TABLES or is_image(path)
