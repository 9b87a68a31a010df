"""Columns of tables: values with the ends of their intervals."""

import numpy as np
import numpy.typing as npt

from mtmsa_lightning.evaluation.resampling import Floats, interval


def with_ends(name: str, values: Floats, drawn: Floats, enough: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """Return the columns ``<name>``, ``<name>_low`` and ``<name>_high`` (percentiles of bootstrap samples).

    Args:
        name: Name of the column.
        values: A value per row, ``(K,)``.
        drawn: The values of bootstrap samples, ``(B, K)``.
        enough: Whether a row has enough subjects for an interval, ``(K,)``; its ends are NaN otherwise.
    """
    rows = zip(drawn.T, enough, strict=True)
    ends = np.array([interval(row) if there else (np.nan, np.nan) for row, there in rows]).reshape(-1, 2)
    return {name: values, f"{name}_low": ends[:, 0], f"{name}_high": ends[:, 1]}
