"""Groups of faces by labelled gender, race and age."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.evaluation.predictions import Predictions

DIMENSIONS = ("gender", "race", "age")
"""Dimensions of groups: labelled gender, labelled race, and decade of age (or the labelled age group)."""


class Group(NamedTuple):
    """Faces with the same labels, in increasing order of predicted std.

    Attributes:
        by: The division that the group belongs to, such as ``gender x age``; ``all`` for all faces.
        names: The label of each dimension of the division.
        rows: Positions of its faces.
    """

    by: str
    names: dict[str, str]
    rows: npt.NDArray[np.int64]

    @property
    def name(self) -> str:
        """The labels, such as ``female, 20-29``; ``all`` for all faces."""
        return ", ".join(self.names.values()) or "all"

    def labels(self) -> dict[str, str]:
        """Return the label of every dimension, "" where not divided by it."""
        return {name: self.names.get(name, "") for name in DIMENSIONS}


def labelled_faces(predictions: Predictions) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which faces count for the metrics of each kind of label."""
    low, high = predictions.age_low.numpy(), predictions.age_high.numpy()
    there = {"exact": low == high, "group": low < high, "age": ~np.isnan(low)}
    there["votes"] = ~(predictions.votes_mean + predictions.votes_std).isnan().numpy()
    if predictions.age is None:
        there = {kind: np.zeros(len(low), bool) for kind in there}
    for task, head in (("gender", predictions.gender), ("race", predictions.race)):
        there[task] = np.zeros(len(low), bool) if head is None else (head.target >= 0).numpy()
    return there


def face_groups(predictions: Predictions) -> Iterator[Group]:
    """Yield the groups of every combination of dimensions, fewest dimensions first."""
    labels = {
        "gender": predictions.gender_labels, "race": predictions.race_labels, "age": predictions.age_labels,
    }  # fmt: skip
    known = [name for name in DIMENSIONS if (labels[name] != "").any()]
    counted = np.logical_or.reduce([*labelled_faces(predictions).values()])
    age = predictions.age
    by_std = np.arange(len(predictions)) if age is None else age.std.argsort(stable=True).numpy()
    for size in range(len(known) + 1):
        for by in combinations(known, size):
            there = np.logical_and.reduce([counted, *(labels[name] != "" for name in by)])
            rows = by_std[there[by_std]]
            kinds = pd.DataFrame({name: labels[name][rows] for name in by}, index=rows)
            grouped = kinds.groupby(list(by), sort=False).indices if by else {(): np.arange(len(rows))}
            for key, members in sorted(grouped.items(), key=lambda item: _order(by, item[0])):
                names = dict(zip(by, _as_tuple(key), strict=True))
                yield Group(" x ".join(by) or "all", names, rows[members])


def _order(by: tuple[str, ...], key: Any) -> tuple[Any, ...]:
    """Return a sort key: ages by their first year, names alphabetically."""
    parts = zip(by, _as_tuple(key), strict=True)
    return tuple(int(part.partition("-")[0]) if name == "age" else part for name, part in parts)


def _as_tuple(key: Any) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (key,)
