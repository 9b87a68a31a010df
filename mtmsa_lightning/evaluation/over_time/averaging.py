"""The error of the mean of several photos of one person: as its parts predict, and measured."""

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.over_time.columns import with_ends
from mtmsa_lightning.evaluation.over_time.photos import Photos, shuffled
from mtmsa_lightning.evaluation.over_time.variance import Components, Variances
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, Floats, bootstrap_sums, divide
from mtmsa_lightning.settings.defaults import DRAWS

PHOTOS = (1, 2, 3, 5)
"""Numbers of photos that are averaged."""

COLUMNS = (
    *(f"{name}{end}" for name in ("rmse_predicted", "rmse", "mae") for end in ("", "_low", "_high")),
    "rmse_single",
    "mae_single",
)
"""Columns beside the numbers of photos and subjects."""

ORDERS = 20
"""Random orders of each subject's photos, whose successive photos are averaged."""


def averaging_table(
    photos: Photos, mean: Floats, parts: Variances, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Return the error of the mean of several photos of a person, taken at one age.

    The prediction is ``sqrt(common + between + within / k)``. The measurement averages, for k photos of a
    subject drawn by the seed, their errors without the mean of their ages, and adds the mean error of the age
    of each of them; of one photo it is the error itself. Subjects count by their number of photos.

    Args:
        photos: The photos.
        mean: Mean error at the age of each photo, ``(N,)``.
        parts: The parts of the error without that mean.
        draws: Number of bootstrap samples of subjects; those of measurements keep the mean error of each age.
        seed: Seed of the samples and orders.

    Returns:
        A row per number of ``photos``, the last one infinite: ``rmse_predicted``; ``subjects`` with as many
        photos, and of these, where they are ``MIN_CLUSTERS`` or more, ``rmse`` and ``mae`` of the mean, and
        ``rmse_single`` and ``mae_single`` of one photo. The first four with ``_low`` and ``_high`` (95 %).
    """
    enough = np.array([photos.subjects >= MIN_CLUSTERS])
    weight = photos.counts.astype(np.float64)
    single = np.zeros((photos.subjects, 2))
    rows = []
    for number in (*PHOTOS, np.inf):
        row: dict[str, object] = {"photos": [float(number)]}
        value, drawn = (_rmse(each, number) for each in parts)
        row |= with_ends("rmse_predicted", value, drawn[:, None], enough)
        there = weight >= number
        row["subjects"] = np.nan if np.isinf(number) else int(there.sum())
        if np.isfinite(number) and there.sum() >= MIN_CLUSTERS:
            errors = errors_of_means(photos, mean, int(number), seed)
            single = errors if number == 1 else single
            kept = (weight * there)[:, None]
            totals = np.concatenate([kept, kept * errors, kept * single], axis=1)
            moved = _roots(bootstrap_sums(totals, draws, seed))
            for name, measured in _roots(totals.sum(0, keepdims=True)).items():
                ends = with_ends(name, measured, moved[name][:, None], np.array([True]))
                row |= {name: measured} if name.endswith("_single") else ends
        rows.append(pd.DataFrame(row))
    return pd.concat(rows, ignore_index=True).reindex(columns=["photos", "subjects", *COLUMNS])


def errors_of_means(photos: Photos, mean: Floats, number: int, seed: int = 0) -> Floats:
    """Return the mean squared and mean absolute error of means of ``number`` photos, ``(subjects, 2)``.

    0 for a subject of fewer photos.
    """
    rest = photos.error - mean
    sums, groups = np.zeros((photos.subjects, 2)), np.zeros(photos.subjects)
    random = np.random.default_rng(seed)
    usable = photos.counts // number * number
    for _ in range(1 if number == 1 else ORDERS):
        order, place = shuffled(photos, random)
        together = order[place < usable[photos.subject]].reshape(-1, number)
        error = mean[together] + rest[together].mean(axis=1, keepdims=True)
        subject = photos.subject[together[:, 0]]
        groups += np.bincount(subject, minlength=photos.subjects)
        for column, values in enumerate((error**2, np.abs(error))):
            sums[:, column] += np.bincount(subject, values.mean(axis=1), minlength=photos.subjects)
    return np.nan_to_num(divide(sums, np.repeat(groups[:, None], 2, axis=1)))


def _rmse(parts: Components, number: float) -> Floats:
    return np.sqrt(parts.common + parts.between + parts.within / number)


def _roots(sums: Floats) -> dict[str, Floats]:
    """Return the errors of ``(B, 5)`` sums: weights, and squared and absolute errors of several and one."""
    means = divide(sums[:, 1:], np.repeat(sums[:, :1], 4, axis=1))
    return {
        "rmse": np.sqrt(means[:, 0]), "mae": means[:, 1],
        "rmse_single": np.sqrt(means[:, 2]), "mae_single": means[:, 3],
    }  # fmt: skip
