"""The errors of networks on the test parts of several datasets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.face_scores import face_scores
from mtmsa_lightning.evaluation.folds import clusters, known_subjects
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, bootstrap_means, interval
from mtmsa_lightning.evaluation.table_metrics import scalars
from mtmsa_lightning.settings.defaults import DRAWS

COLUMNS = ("age_mae", "age_bias", "age_rmse", "age_cs5", "age_crps", "group_acc", "gender_acc", "race_acc")
"""Metrics in the table, as far as a cell has them; intervals are those of the MAE."""


@dataclass(frozen=True)
class Cell:
    """One network on one test part.

    Attributes:
        model: Name of the network, the row.
        data: Name of the dataset, the column.
        trained_on: Dataset that the network was trained on.
        tested_on: Dataset, protocol and fold of the test part.
        predictions: Predictions with labels; None if the test was refused.
        refused: Why, if it was.
        own: Whether the test part belongs to the split that the network was trained on.
        warnings: Overlap with training faces that was allowed, differences of crop and size from training,
            masked classes.
    """

    model: str
    data: str
    trained_on: str
    tested_on: str
    predictions: pd.DataFrame | None = None
    refused: str = ""
    own: bool = False
    warnings: tuple[str, ...] = field(default_factory=tuple)


def matrix_table(cells: Sequence[Cell], draws: int = DRAWS) -> pd.DataFrame:
    """Return a row per cell: names, faces, subjects, metrics, the interval of the MAE, and warnings.

    ``age_mae_low`` and ``age_mae_high`` are the ends of a 95 % percentile bootstrap interval by subject, NaN
    for fewer than ``MIN_CLUSTERS``.
    """
    rows = []
    for cell in cells:
        row: dict[str, Any] = {
            "model": cell.model, "data": cell.data, "trained_on": cell.trained_on,
            "tested_on": cell.tested_on, "own": cell.own,
        }  # fmt: skip
        row |= _metrics(cell.predictions, draws) if cell.predictions is not None else {}
        rows.append(row | {"warnings": "; ".join(cell.warnings), "refused": cell.refused})
    names = ("age_mae", "age_mae_low", "age_mae_high", *COLUMNS[1:])
    first = ["model", "data", "trained_on", "tested_on", "own", "faces", "subjects"]
    return pd.DataFrame(rows).reindex(columns=[*first, *names, "warnings", "refused"])


def _metrics(predictions: pd.DataFrame, draws: int) -> dict[str, Any]:
    read = read_predictions(predictions)
    found: Mapping[str, float] = scalars(read)
    row: dict[str, Any] = {"faces": len(read), "subjects": known_subjects(predictions)}
    row |= {name: found[name] for name in COLUMNS if name in found}
    units = clusters(predictions)
    if "age_mae" in found and len(np.unique(units)) >= MIN_CLUSTERS:
        ends = interval(bootstrap_means(face_scores(read)["age_mae"], units, draws))
        row["age_mae_low"], row["age_mae_high"] = ends
    return row
