"""Paths as a user gives them, looked up before anything heavy is imported."""

import glob
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.data.suffixes import IMAGE_SUFFIXES
from mtmsa_lightning.errors import DataError

TABLES = (".csv", ".tsv")
"""Endings of the tables that list images in a column ``path``."""


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
    if Path(path).exists():
        return [path], []
    if not glob.has_magic(path):
        raise DataError(f"{path}: no such file or folder")
    found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  # keeps the path as given
    used = [match for match in found if _counts(Path(match))]
    others = [match for match in found if match not in set(used)]
    if not used:
        also = f", only {say_names(others)}" if others else ""
        raise DataError(f"{path}: the pattern matches no image, folder or table{also}")
    return used, others


def say_names(names: Sequence[str], most: int = 2) -> str:
    """Name the first few of many."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def _counts(path: Path) -> bool:
    """Tell whether what a pattern matched is of use: it may match anything."""
    return path.is_dir() or path.suffix.lower() in {*IMAGE_SUFFIXES, *TABLES}
