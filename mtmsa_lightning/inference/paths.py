"""Paths as a user gives them, looked up before anything heavy is imported."""

import glob
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning._utils.suffixes import IMAGE_SUFFIXES
from mtmsa_lightning.errors import DataError

TABLES = (".csv", ".tsv")
"""Endings of the tables that list images in a column ``path``."""

_NO_MATCH = "the pattern matches no image, folder or table"


def check_there(path: str) -> None:
    """Refuse a path of which nothing is there; of a pattern no more than the first match is looked for.

    Raises:
        DataError: There is nothing of that name, or the pattern matches nothing.
    """
    if Path(path).exists():
        return
    if not glob.has_magic(path):
        raise DataError(f"{path}: no such file or folder")
    if next(glob.iglob(path, recursive=True), None) is None:  # noqa: PTH207  # keeps the path as given
        raise DataError(f"{path}: {_NO_MATCH}")


def matches(path: str) -> tuple[list[str], list[str]]:
    """Return what a path stands for: itself, or what a pattern such as ``photos/**/*.jpg`` matches.

    Returns:
        Images, folders and tables; and files of other kinds that a pattern matched too, which are no input.

    Raises:
        DataError: There is nothing of that name, or no table can hold it.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path!r}: no table can hold this name, which is no UTF-8: rename it") from None
    check_there(path)
    if Path(path).exists():
        return [path], []
    used: list[str] = []
    others: list[str] = []
    for match in sorted(glob.glob(path, recursive=True)):  # noqa: PTH207  # keeps the path as given
        (used if _counts(Path(match)) else others).append(match)
    if not used:
        raise DataError(f"{path}: {_NO_MATCH}, only {say_names(others)}")
    return used, others


def say_names(names: Sequence[str], most: int = 2) -> str:
    """Name the first few of many."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def _counts(path: Path) -> bool:
    """Tell whether what a pattern matched is of use: it may match anything."""
    return path.is_dir() or path.suffix.lower() in {*IMAGE_SUFFIXES, *TABLES}
