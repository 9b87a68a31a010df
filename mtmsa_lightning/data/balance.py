"""Weights of faces for balanced sampling, with label distribution smoothing for ages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning.data.face_table import MAX_AGE
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.defaults import BALANCE_SMOOTHING


def balancing_weights(
    faces: pd.DataFrame,
    by: Sequence[str] = ("age",),
    strength: float = 1.0,
    smoothing: float = BALANCE_SMOOTHING,
) -> NDArray[np.float64]:
    """Return how often each face is used, relative to the mean of all.

    The weight is ``density ** -strength``, where the density is the number of faces with the same labels.
    Over ages it is smoothed by a Gaussian kernel (label distribution smoothing; Yang et al., "Delving into
    Deep Imbalanced Regression", ICML 2021, equation 1): ``p(y') = sum over y of k(y, y') n(y)`` with
    ``k(y, y') = exp(-(y - y')^2 / (2 smoothing^2))``. Strengths of 1 and 0.5 are the paper's inverse and
    square-root-inverse weights. With further columns the ages of each of their combinations are smoothed.
    A face without one of the labels has weight 1.

    Args:
        faces: Rows of a face table.
        by: Columns to balance over jointly: ``age`` (the midpoint of ``age_low`` and ``age_high``, in whole
            years) and any columns of the table, such as ``gender``.
        strength: From 0 (each face once) to 1 (each combination of labels equally often).
        smoothing: Standard deviation of the kernel in years; 0 does not smooth.

    Returns:
        Shape (N,), positive; the mean over labelled faces is 1.

    Raises:
        ConfigError: A column does not exist, or no face has all labels.
    """
    columns = [name for name in by if name != "age"]
    unknown = [name for name in columns if name not in faces]
    if unknown:
        there = ", ".join(["age", *map(str, faces)])
        raise ConfigError(f"data.balance_by: the table has no column {unknown[0]!r}; choose from {there}")
    known = np.ones(len(faces), bool)
    for name in columns:
        known &= (faces[name].notna() & ~faces[name].isin(["", -1])).to_numpy()
    years = np.zeros(len(faces))
    if "age" in by:
        years = ((faces["age_low"] + faces["age_high"]) / 2).to_numpy(np.float64)
        known &= ~np.isnan(years)
    if not known.any():
        raise ConfigError(f"data.balance_by {list(by)}: no training face has these labels; choose others")
    labelled = faces[known]
    cells = labelled.groupby(columns).ngroup().to_numpy() if columns else np.zeros(len(labelled), int)
    density = _density(cells, years[known].astype(int), smoothing)
    weights = np.ones(len(faces))
    weights[known] = density**-strength / (density**-strength).mean()
    return weights


def _density(cells: NDArray[Any], years: NDArray[Any], smoothing: float) -> NDArray[np.float64]:
    """Return the smoothed number of faces with the cell and age of each face, shape (N,)."""
    counts = np.zeros((cells.max() + 1, MAX_AGE + 1))
    np.add.at(counts, (cells, years), 1)
    if smoothing:
        ages = np.arange(MAX_AGE + 1)
        counts = counts @ np.exp(-((ages[:, None] - ages) ** 2) / (2 * smoothing**2))
    density: NDArray[np.float64] = counts[cells, years]
    return density
