"""Matching of the rows of another program's table with the faces of a dataset."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.errors import DataError

Rows = NDArray[np.int64]


class Match(NamedTuple):
    """Rows of the table of predictions, matched with faces.

    Attributes:
        face: Face of each row, ``(N,)``; -1 where none matches.
        by: What was compared: ``id``, ``path``, ``file name`` or ``file name without ending``.
    """

    face: Rows
    by: str


def match_faces(keys: Sequence[str], ids: Sequence[str], paths: Sequence[str]) -> Match:
    """Match ids or paths with faces in the way that matches the most rows, the strictest of equal ones.

    A path matches if one of both paths is the end of the other, folder by folder. Names of files are compared
    alone if that matches more rows; names that several faces share match nothing. The first part of an id,
    the name of the dataset, may be missing.

    Args:
        keys: Ids or paths of N rows.
        ids: Ids of the faces.
        paths: Their paths, relative to the dataset.
    """
    ways = {
        "id": _by_value(keys, ids, str),
        "path": _by_ends(keys, paths, ids),
        "file name": _by_value(keys, ids, lambda text: _path(text).name),
        "file name without ending": _by_value(keys, ids, lambda text: _path(text).name.partition(".")[0]),
    }
    by = max(ways, key=lambda way: int((ways[way] >= 0).sum()))  # the first of equal ones
    return Match(ways[by], by)


def check_unique(match: Match, keys: Sequence[str], source: object) -> None:
    """Raise DataError if several rows match one face."""
    rows = np.flatnonzero(match.face >= 0)
    _, first, counts = np.unique(match.face[rows], return_index=True, return_counts=True)
    if (counts > 1).any():
        several = [keys[row] for row in rows[first[counts > 1]][:5]]
        raise DataError(
            f"{source}: {int((counts > 1).sum()):,} faces have several predictions (matched by "
            f"{match.by}), such as {shown(several)}: keep one row per face"
        )


def _path(text: str) -> PurePosixPath:
    return PurePosixPath(text.replace("\\", "/"))


def _by_value(keys: Sequence[str], faces: Sequence[str], of: Callable[[str], str]) -> Rows:
    """Match equal values of a function; a value that several faces have matches nothing."""
    index: dict[str, int] = {}
    for number, face in enumerate(faces):
        value = of(face)
        index[value] = -1 if value in index else number
    return np.array([index.get(of(key), -1) for key in keys], np.int64)


def _by_ends(keys: Sequence[str], paths: Sequence[str], ids: Sequence[str]) -> Rows:
    """Match a path that is the end of the other one, folder by folder."""
    index: dict[tuple[str, ...], int] = {}
    whole: dict[tuple[str, ...], int] = {}
    for number, names in enumerate(zip(paths, ids, strict=True)):
        ends = {_path(names[0]).parts, _path(names[1]).parts[1:]}
        for parts in ends - {()}:
            whole[parts] = -1 if whole.get(parts, number) != number else number
        for end in {parts[first:] for parts in ends for first in range(len(parts))}:
            index[end] = -1 if index.get(end, number) != number else number
    found = []
    for key in keys:
        parts = tuple(part for part in _path(key).parts if part not in ("/", "."))
        suffixes = [parts[first:] for first in range(len(parts))]
        contained = [whole[end] for end in suffixes if whole.get(end, -1) >= 0]
        found.append(contained[0] if contained else index.get(parts, -1))
    return np.array(found, np.int64)
