"""The evaluation of the same person over time."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.over_time.averaging import averaging_table
from mtmsa_lightning.evaluation.over_time.pairs import MOST_PHOTOS, gap_table, pair_sums
from mtmsa_lightning.evaluation.over_time.photos import photos_of_subjects
from mtmsa_lightning.evaluation.over_time.variance import (
    AS_THEY_ARE,
    BY_AGE,
    age_basis,
    mean_error,
    variance_table,
    variances,
)
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.settings.defaults import DRAWS


class OverTime(NamedTuple):
    """Errors of photos of the same people at different ages, as tables ready for CSV.

    Attributes:
        gaps: Differences of age between two photos, see :func:`.pairs.gap_table`.
        variance: Parts of the error, see :func:`.variance.variance_table`.
        averaging: Errors of the mean of several photos, see :func:`.averaging.averaging_table`.
        sampled: Number of subjects of whose photos only ``MOST_PHOTOS`` are paired.
    """

    gaps: pd.DataFrame
    variance: pd.DataFrame
    averaging: pd.DataFrame
    sampled: int

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {"gaps": self.gaps, "variance": self.variance, "averaging": self.averaging}

    def to_dict(self) -> dict[str, Any]:
        """Return the tables as lists of rows, and ``sampled``."""
        rows: dict[str, Any] = {name: table.to_dict("records") for name, table in self.tables.items()}
        return rows | {"sampled": self.sampled}


def over_time(predictions: Predictions, draws: int = DRAWS, seed: int = 0) -> OverTime | None:
    """Compare the estimates of photos of one person at different ages, with intervals by subject.

    Faces need a subject and an exact age; None if no subject has two photos of different ages, or no ages are
    predicted.
    """
    if predictions.age is None:
        return None
    photos = photos_of_subjects(predictions)
    sums = pair_sums(photos, seed=seed)
    if not sums[..., 0].any():
        return None
    curve = age_basis(photos)
    parts = variances(photos, curve, draws, seed)
    whole = variances(photos, np.ones((len(photos.age), 1)), draws, seed)
    return OverTime(
        gaps=gap_table(sums, draws, seed),
        variance=variance_table(photos, {BY_AGE: parts, AS_THEY_ARE: whole}),
        averaging=averaging_table(photos, mean_error(photos, curve), parts, draws, seed),
        sampled=int((photos.counts > MOST_PHOTOS).sum()),
    )
