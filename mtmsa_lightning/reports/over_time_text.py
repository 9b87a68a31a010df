"""Sentences on the same person over time, and numbers with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.evaluation.over_time.variance import BY_AGE

Row = Mapping[Any, Any]

SEVERAL = 3
"""Number of averaged photos in the sentences."""


def paragraphs(gaps: Sequence[Row], variance: Sequence[Row], averaging: Sequence[Row]) -> list[str]:
    """Return sentences on the rows of the tables of :class:`.over_time.OverTime`, a text per paragraph.

    Shares in the wrong order are those of the smallest, a middle and the largest difference of age with an
    interval.
    """
    texts = [_order(gaps)]
    parts = next(row for row in variance if row["errors"] == BY_AGE)
    if not np.isnan(parts["between_share"]):
        texts.append(f"{_parts(parts)} {_several(averaging)}")
    return texts


def _order(gaps: Sequence[Row]) -> str:
    *rows, every = gaps
    known = [row for row in rows if not np.isnan(row["wrong_order_low"])] or rows
    first, *others = [known[each] for each in sorted({0, len(known) // 2, len(known) - 1})]
    more = "".join(f"; of those {_apart(row)}, {percent(row, 'wrong_order')}" for row in others)
    return (
        f"{pluralize(int(every['subjects']), 'person has', 'people have')} photos of different ages. Of "
        f"pairs of photos of one person taken {_apart(first)}, {percent(first, 'wrong_order')} are put in "
        f"the wrong order (the older photo is estimated to be younger){more}. For each year of true "
        f"difference of age, the estimated one grows by {number(every, 'slope')}; it would by 1 if estimates "
        "followed a face as it ages."
    )


def _apart(row: Row) -> str:
    return f"{row['gap'].replace('-', ' to ')} {'year' if row['gap'] == '1' else 'years'} apart"


def _parts(row: Row) -> str:
    own, common, photo = (percent(row, f"{part}_share", 0) for part in ("between", "common", "within"))
    return (
        f"Of the mean squared error, {own} is the person's own and stays however many photos are taken, "
        f"{common} is common to all people of an age, and {photo} differs from photo to photo."
    )


def _several(averaging: Sequence[Row]) -> str:
    rmse = {row["photos"]: number(row, "rmse_predicted", 1) for row in averaging}
    return (
        "Only this last part is averaged out by several photos: with the mean of "
        f"{SEVERAL} photos the RMSE is expected to be {rmse[SEVERAL]} years instead of {rmse[1]}, and no "
        f"number of photos brings it below {rmse[np.inf]}."
    )


def number(row: Row, name: str, places: int = 2) -> str:
    """Return a value with its interval, such as ``4.31 (4.10 to 4.52)``; "-" where it is missing."""
    if np.isnan(row[name]):
        return "-"
    low, high = (f"{row[f'{name}_{end}']:z.{places}f}" for end in ("low", "high"))
    return f"{row[name]:z.{places}f}" + ("" if low == "nan" else f" ({low} to {high})")


def percent(row: Row, name: str, decimals: int = 1) -> str:
    """Return a share in percent with its interval, such as ``12.3 % (10.1 to 14.9)``."""
    share = {key: 100 * row[key] for key in (name, f"{name}_low", f"{name}_high")}
    value, *ends = number(share, name, decimals).partition(" ")
    return f"{value} %{''.join(ends)}"
