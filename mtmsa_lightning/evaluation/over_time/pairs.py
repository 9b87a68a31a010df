"""Pairs of photos of one person: the estimated difference of age against the true one."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.over_time.columns import with_ends
from mtmsa_lightning.evaluation.over_time.photos import Numbers, Photos, thinned
from mtmsa_lightning.evaluation.proportions import fractions_of_sums
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, Floats, bootstrap_sums, divide
from mtmsa_lightning.settings.defaults import DRAWS

GAPS = (1, 2, 3, 5, 10, 20)
"""Least true difference of age in years of each row of the table; differences below the first are in it."""

MOST_PHOTOS = 500
"""Most photos of a subject that are paired, 124,750 pairs; of more, as many are drawn."""

CHUNK = 1_000_000
"""Pairs that are computed at a time, which bounds memory."""

_SUMS = ("pairs", "true", "estimated", "absolute", "squared", "wrong", "true_squared", "product")


def gap_names() -> list[str]:
    """Return the names of the rows, such as ``3-4``."""
    names = [f"{low}-{high - 1}" if high > low + 1 else f"{low}" for low, high in pairwise(GAPS)]
    return [*names, f"{GAPS[-1]} or more"]


def pair_sums(photos: Photos, most: int = MOST_PHOTOS, seed: int = 0) -> Floats:
    """Return sums over the pairs of photos of each subject with different ages, by true difference.

    Args:
        photos: The photos.
        most: Most photos of a subject that are paired; of more, as many are drawn.
        seed: Seed of that draw.

    Returns:
        ``(subjects, gaps, 8)``: the number of pairs, and of the true difference d, the estimated difference
        e and its error e - d the sums of d, e, abs(e - d), (e - d)^2, pairs in the wrong order (e < 0, and
        half for e = 0), d^2 and d e.
    """
    subjects, photos = photos.subjects, thinned(photos, most, seed)
    sums = np.zeros((len(_SUMS), subjects * len(GAPS)))
    for first, second in _pairs(photos.subject):
        true = photos.age[second] - photos.age[first]  # not negative, as photos are sorted by age
        first, second, true = first[true > 0], second[true > 0], true[true > 0]
        estimated = photos.estimate[second] - photos.estimate[first]
        error = estimated - true
        wrong = (estimated < 0) + 0.5 * (estimated == 0)
        row = np.maximum(np.searchsorted(GAPS, true, side="right") - 1, 0)
        cell = photos.subject[first] * len(GAPS) + row
        added = (np.ones_like(true), true, estimated, np.abs(error), error**2, wrong, true**2)
        for total, values in zip(sums, (*added, true * estimated), strict=True):
            total += np.bincount(cell, values, minlength=sums.shape[1])
    return np.moveaxis(sums.reshape(len(_SUMS), subjects, len(GAPS)), 0, -1)


def _pairs(subject: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the positions of all pairs of one subject in chunks, the first before the second."""
    later = np.searchsorted(subject, subject, side="right") - np.arange(len(subject)) - 1
    done = np.concatenate([[0], np.cumsum(later)])
    start = 0
    while start < len(subject):
        stop = max(start + 1, int(np.searchsorted(done, done[start] + CHUNK, side="right")) - 1)
        first = np.repeat(np.arange(start, stop), later[start:stop])
        before = np.repeat(done[start:stop] - done[start], later[start:stop])
        yield first, first + 1 + np.arange(len(first)) - before
        start = stop


def gap_table(sums: Floats, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Return a row per true difference of age with a pair, and one of all pairs (``gap`` is ``all``).

    Pairs have equal weights, so a subject with n photos counts n (n - 1) / 2 times.

    Args:
        sums: Those of :func:`pair_sums`.
        draws: Number of bootstrap samples of subjects.
        seed: Seed of the samples.

    Returns:
        ``gap``, ``pairs``, ``subjects``, ``most_of_one`` (largest share of one subject in the pairs),
        ``true`` (mean difference in years), and, with ``_low`` and ``_high`` (95 %, by subject; NaN for fewer
        than ``MIN_CLUSTERS`` subjects): ``estimated`` (mean difference), ``bias`` and ``mae`` of the
        estimated difference, ``slope`` (of the estimated on the true difference, least squares through the
        origin), and ``wrong_order`` (share of the pairs, ties counted half); ``wrong_order_by_subject`` (mean
        of the subjects' shares) and ``sd`` of the error of the difference have no interval. That of
        ``wrong_order`` is Wilson's with the design effect of subjects (:func:`.proportions.fractions`), all
        others are bootstrap percentiles.
    """
    every = np.concatenate([sums, sums.sum(1, keepdims=True)], axis=1)
    names = np.array([*gap_names(), "all"])
    there = every[..., 0].sum(0) > 0
    every, names = every[:, there], names[there]
    pairs, wrong = every[..., 0], every[..., _SUMS.index("wrong")]
    several = (pairs > 0).sum(0)
    enough = several >= MIN_CLUSTERS
    shape = (-1, len(names), len(_SUMS))
    drawn = _means(bootstrap_sums(every.reshape(len(every), -1), draws, seed).reshape(shape))
    columns: dict[str, object] = {"gap": names, "pairs": pairs.sum(0).astype(int), "subjects": several}
    columns["most_of_one"] = (pairs / pairs.sum(0)).max(0)
    for name, values in _means(every.sum(0)).items():
        kept = name in ("true", "sd")
        columns |= {name: values} if kept else with_ends(name, values, drawn[name], enough)
    found = fractions_of_sums(wrong, pairs)
    low, high = (np.where(enough, end, np.nan) for end in (found.low, found.high))
    columns |= {"wrong_order": found.value, "wrong_order_low": low, "wrong_order_high": high}
    columns["wrong_order_by_subject"] = np.nanmean(divide(wrong, pairs), axis=0)
    return pd.DataFrame(columns)


def _means(sums: Floats) -> dict[str, Floats]:
    """Return means of ``(..., 8)`` sums by name; NaN for a sample without pairs."""
    found = dict(zip(_SUMS, np.moveaxis(sums, -1, 0), strict=True))
    pairs = found["pairs"]
    true, estimated, mae, square = (
        divide(found[name], pairs) for name in ("true", "estimated", "absolute", "squared")
    )
    bias = estimated - true
    return {
        "true": true, "estimated": estimated, "bias": bias, "mae": mae,
        "sd": np.sqrt(np.maximum(square - bias**2, 0.0)),
        "slope": divide(found["product"], found["true_squared"]),
    }  # fmt: skip
