"""Class orders, age groups and the cells in which an age group is decided.

Units: ages are completed years. An age label is an inclusive pair ``(low, high)``; an exact age has both
equal. Classes are indices into the tuples below; a missing class is ``-1``, a missing age ``NaN``.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

GENDERS: tuple[str, ...] = ("male", "female")
"""Gender classes in index order, the same for every dataset: 0 is male, 1 is female."""

RACES: tuple[str, ...] = ("white", "black", "asian", "indian", "hispanic", "other")
"""Race names of the releases. A table may have other names, in any number and order."""

AGE_GROUPS: tuple[tuple[int, int], ...] = (
    (0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100),
)  # fmt: skip
"""The eight age groups of Adience, inclusive, in completed years."""

FAIRFACE_AGE_GROUPS: tuple[tuple[int, int], ...] = (
    (0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 100),
)  # fmt: skip
"""The nine age groups of FairFace; the last one is "more than 70"."""


def age_group_edges(groups: Sequence[Sequence[int]] = AGE_GROUPS) -> tuple[float, ...]:
    """Return the edges in years of the gapless cells in which a group is decided: the middles of the gaps.

    The first and the last cell are open. An age on an edge belongs to the cell below. Without groups the
    cells are Adience's.

    >>> age_group_edges()
    (3.0, 7.0, 13.5, 22.5, 35.0, 45.5, 56.5)
    >>> age_group_edges([(0, 9), (10, 19), (20, 99)])
    (9.5, 19.5)
    """
    return tuple((below[1] + above[0]) / 2 for below, above in pairwise(groups or AGE_GROUPS))


AGE_GROUP_EDGES: tuple[float, ...] = age_group_edges()
"""Edges of the cells of ``AGE_GROUPS``."""


def age_group_index(age: float, edges: Sequence[float] = AGE_GROUP_EDGES) -> int:
    """Return the index of the group whose cell holds ``age`` (years); see :func:`age_group_edges`.

    >>> [age_group_index(age) for age in (0, 3, 3.5, 35, 36, 100)]
    [0, 0, 1, 4, 5, 7]
    """
    return bisect_left(edges, age)


def class_key(name: str) -> str:
    """Return the form of a class name in which names are compared.

    Case, Unicode normalisation, and which of ``_``, ``-`` and blanks separate words make no difference.

    >>> class_key("East Asian") == class_key("east_asian")
    True
    """
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


SYNTHETIC = "synthetic"
"""Name of data that was drawn; with a hyphen before that of the release whose layout it has."""

SYNTHETIC_RECORD = "synthetic.json"
"""File that `mtmsa synthesize` writes beside its faces."""
