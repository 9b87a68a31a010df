"""Numbers of faces by age, gender, race, fold and part."""

import numpy as np
import pandas as pd

from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.splits.split import PARTS, Split
from mtmsa_lightning.labels import GENDERS

UNUSED = "unused"


def counts(table: FaceTable, split: Split | None = None) -> dict[str, pd.DataFrame]:
    """Count the faces of every class, in total and by part.

    Returns:
        One frame for each of ``age`` (completed years, or groups such as "25-32"), ``gender``, ``race`` and
        ``fold`` that the dataset has. Its index is the class, in order, "unknown" last; the first column is
        ``all``, the others are the parts of ``split``; ``unused`` only if there are such faces.
    """
    faces = table.frame
    part = part_names(split, len(table))
    classes = {
        "age": _ages(faces),
        "gender": _named(faces["gender"], GENDERS),
        "race": _named(faces["race"], table.race_classes),
        "fold": faces["fold"].map(lambda fold: str(fold) if fold >= 0 else "unknown"),
    }
    order = {
        "age": classes["age"][np.lexsort((faces["age_high"], faces["age_low"]))].unique().tolist(),
        "gender": [*GENDERS, "unknown"],
        "race": [*table.race_classes, "unknown"],
        "fold": [*map(str, range(int(faces["fold"].max()) + 1)), "unknown"],
    }
    tables = {}
    for name, values in classes.items():
        if (values != "unknown").any():
            counted = pd.crosstab(values.to_numpy(), part.to_numpy())
            present = [entry for entry in order[name] if entry in counted.index]
            columns = [column for column in (*PARTS, UNUSED) if column in counted]
            counted = counted.loc[present, columns]
            counted.insert(0, "all", counted.sum(axis=1))
            tables[name] = counted
    return tables


def part_names(split: Split | None, rows: int) -> "pd.Series[str]":
    """Return the part of every row: train, val, test, calibration or unused."""
    part = pd.Series([UNUSED] * rows, dtype="str")
    if split is not None:
        for name in PARTS:
            part.iloc[getattr(split, name)] = name
    return part


def _ages(faces: pd.DataFrame) -> "pd.Series[str]":
    low, high = (faces[name].map("{:.0f}".format) for name in ("age_low", "age_high"))
    text = low.where(low == high, low + "-" + high)
    return text.where(faces["age_low"].notna(), "unknown").astype("str")


def _named(indices: "pd.Series[int]", names: tuple[str, ...]) -> "pd.Series[str]":
    return pd.Series(np.array([*names, "unknown"], object)[indices], index=indices.index, dtype="str")
