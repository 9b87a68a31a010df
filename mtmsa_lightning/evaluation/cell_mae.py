"""NIST's mean absolute error: the mean over cells of sex and single age, not over faces."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.resampling import (
    MIN_CLUSTERS,
    bootstrap_means,
    cluster_numbers,
    interval,
    sampling_units,
)
from mtmsa_lightning.labels import GENDERS
from mtmsa_lightning.settings.defaults import CELL_AGES, DRAWS


class CellMAE(NamedTuple):
    """The MAE of cells of sex and single age.

    Attributes:
        mae: Mean in years over the cells with a face; NaN without any.
        low: Lower end of its bootstrap interval by subject.
        high: Upper end.
        cells: One row per cell: ``gender`` ("" without labels of gender), ``age``, ``faces``, ``age_mae``.
    """

    mae: float
    low: float
    high: float
    cells: pd.DataFrame

    @property
    def empty(self) -> list[str]:
        """Names of the cells without a face."""
        rows = self.cells[self.cells["faces"] == 0]
        return [f"{gender} {age}".strip() for gender, age in zip(rows["gender"], rows["age"], strict=True)]


def cell_mae(
    predictions: Predictions, ages: tuple[int, int] = CELL_AGES, draws: int = DRAWS, seed: int = 0
) -> CellMAE:
    """Return the mean of the MAEs of all cells of labelled gender and exact age within ``ages``.

    Each cell counts once, however many faces it has; an empty one is left out and named. The headline of
    NIST's evaluation has the 26 cells of two sexes and the ages 18 to 30 (Hanaoka et al., "Face Analysis
    Technology Evaluation: Age Estimation and Verification", NIST IR 8525, 2024, and its web page). The
    interval is a percentile bootstrap interval over subjects; a cell that a sample lacks is left out of its
    mean.
    """
    assert predictions.age is not None
    low, error = predictions.age_low.numpy(), (predictions.age.mean - predictions.age_low).abs().numpy()
    exact = (predictions.age_low == predictions.age_high).numpy()
    genders = GENDERS if (predictions.gender_labels != "").any() else ("",)
    keys = [(gender, age) for gender in genders for age in range(ages[0], ages[1] + 1)]
    members = [exact & (low == age) & (predictions.gender_labels == gender) for gender, age in keys]
    if genders == ("",):
        members = [exact & (low == age) for _, age in keys]
    faces = [int(cell.sum()) for cell in members]
    maes = [float(error[cell].mean()) if cell.any() else np.nan for cell in members]
    cells = pd.DataFrame(keys, columns=["gender", "age"]).assign(faces=faces, age_mae=maes)
    there = np.logical_or.reduce(members)
    if not there.any():
        return CellMAE(np.nan, np.nan, np.nan, cells)
    clusters = cluster_numbers(sampling_units(predictions.ids, predictions.subjects), len(predictions))[there]
    ends = np.nan, np.nan
    if len(np.unique(clusters)) >= MIN_CLUSTERS:
        columns = [np.where(cell, error, np.nan)[there] for cell in members if cell.any()]
        drawn = bootstrap_means(np.stack(columns, axis=1), clusters, draws, seed)
        ends = interval(np.nanmean(drawn, axis=1))
    return CellMAE(float(np.nanmean(maes)), *ends, cells)
