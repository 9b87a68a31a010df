"""Confidence intervals and significance by resampling whole clusters (subjects), numpy only.

Faces of one subject are similar, so they are resampled together. A face without a subject is its own cluster.

Bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13; Davison and
Hinkley, "Bootstrap Methods and their Application", 1997; whole clusters with replacement: Field and Welsh,
"Bootstrapping clustered data", JRSS B 69, 2007.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL, DRAWS, PERMUTATIONS

Floats = npt.NDArray[np.float64]

MIN_CLUSTERS = 10
"""Minimum number of subjects for an interval; with fewer it would be far too narrow."""

CHUNK = 2_000_000
"""Numbers drawn at a time, which bounds memory."""


def bootstrap_means(
    values: npt.ArrayLike, clusters: npt.ArrayLike | None = None, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """Return means of bootstrap samples of whole clusters, ``(draws,)`` or ``(draws, K)``.

    A sample draws as many clusters as there are, with replacement, and averages over the faces of the
    clusters drawn. All columns use the same samples, so the interval of any function of several means can be
    computed from the rows. NaN for a sample without counted faces.

    Args:
        values: A value per face, ``(N,)``, or K values per face, ``(N, K)``; NaN is not counted.
        clusters: A label per face, ``(N,)``; by default, and for an empty text, the face itself.
        draws: Number of bootstrap samples.
        seed: Seed of the draws.
    """
    values = np.asarray(values, np.float64)
    columns = values[:, None] if values.ndim == 1 else values
    totals = np.concatenate(_sums_by_cluster(columns, clusters), axis=1)
    means = divide(*np.split(bootstrap_sums(totals, draws, seed), 2, axis=1))
    return means[:, 0] if values.ndim == 1 else means


def bootstrap_sums(totals: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return sums over bootstrap samples of clusters, ``(draws, K)``, of the clusters' totals ``(C, K)``.

    The same number of clusters and seed give the same samples.
    """
    with np.errstate(invalid="ignore"):  # 0 * inf, for an infinite width that is not drawn
        return np.concatenate([weights @ totals for weights in bootstrap_weights(len(totals), draws, seed)])


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN for a denominator of 0."""
    undefined = np.full_like(numerator, np.nan)
    divided: Floats = np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return divided


def interval(drawn: npt.ArrayLike, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """Return the percentile interval of a bootstrapped statistic.

    Its ends are the (1 - level) / 2 and (1 + level) / 2 quantiles of the draws ``(B,)`` without NaN (Efron
    and Tibshirani, chapter 13); NaN if all are NaN. It is too narrow for few clusters, say less than 30.
    """
    known = np.asarray(drawn, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return float("nan"), float("nan")
    with np.errstate(invalid="ignore"):  # between two infinite draws
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_permutation(
    differences: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    draws: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value, in (0, 1], of a paired permutation test of a mean difference of zero.

    Under the null hypothesis, two models can be exchanged for every subject: the signs of all differences of
    a cluster flip together. p is the fraction of flips with a mean at least as far from zero as the observed
    one. All flips are enumerated if there are at most ``draws``; otherwise they are drawn, and p is (1 +
    number at least as far) / (1 + draws), which is never zero and keeps the level (Phipson and Smyth,
    "Permutation P-values should never be zero", 2010). On 0/1 outcomes without clusters this is McNemar's
    exact test. Arguments as for :func:`bootstrap_means`; NaN if nothing is counted.
    """
    sums, counts = _sums_by_cluster(np.asarray(differences, np.float64)[:, None], clusters)
    if not counts.any():
        return float("nan")
    rounding = 1e-12 * np.abs(sums).sum()
    moved = sums[np.abs(sums) > rounding]
    observed = abs(moved.sum()) - rounding
    exact = len(moved) <= np.log2(draws)
    flips = _all_flips(len(moved)) if exact else _random_flips(len(moved), draws, seed)
    far = sum(int((np.abs(2 * (flip @ moved) - moved.sum()) >= observed).sum()) for flip in flips)
    return float(far / 2 ** len(moved)) if exact else (1 + far) / (1 + draws)


def sampling_units(ids: npt.ArrayLike, subjects: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Return the resampling unit of each face: its subject or, if that is empty, its id.

    Two rows of one face, tested by two folds, are one unit.
    """
    known, alone = np.asarray(subjects, np.str_), np.char.add("face ", np.asarray(ids, np.str_))
    return np.where(known != "", np.char.add("subject ", known), alone)


def cluster_numbers(clusters: npt.ArrayLike | None, faces: int) -> npt.NDArray[np.int64]:
    """Return the number of each face's cluster, from 0; a face without a label is its own."""
    if clusters is None:
        return np.arange(faces)
    labels = np.asarray(clusters)
    if labels.shape != (faces,):
        raise ValueError(f"{labels.shape} cluster labels for {faces} faces")
    alone = labels == "" if labels.dtype.kind in "OUT" else np.zeros(faces, bool)
    names, numbers = np.unique(labels, return_inverse=True)
    numbers[alone] = len(names) + np.arange(alone.sum())
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _sums_by_cluster(columns: Floats, clusters: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Return sums and numbers of the counted values, each ``(clusters, K)``."""
    if not len(columns):
        raise ValueError("there is no face to resample")
    cluster = cluster_numbers(clusters, len(columns))
    known = np.nan_to_num(columns, posinf=np.inf, neginf=-np.inf)
    return sums_by_number(known, cluster), sums_by_number(~np.isnan(columns), cluster)


def sums_by_number(columns: npt.NDArray[np.generic], numbers: npt.NDArray[np.int64]) -> Floats:
    """Return the sums of the rows ``(N, K)`` with each number from 0: ``(largest number + 1, K)``."""
    size = int(numbers.max(initial=-1)) + 1
    sums = np.zeros((size, columns.shape[1]))
    for place, column in enumerate(columns.T):  # np.bincount is much faster than np.add.at
        sums[:, place] = np.bincount(numbers, column, size)
    return sums


def bootstrap_weights(size: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield, in chunks, how often each of ``size`` clusters is in each sample, by the seed."""
    random = np.random.default_rng(seed)
    for samples in _chunks(draws, size):
        drawn = random.integers(size, size=(samples, size)) + size * np.arange(samples)[:, None]
        times = np.bincount(drawn.ravel(), minlength=samples * size)
        yield times.reshape(samples, size).astype(np.float64)


def _all_flips(size: int) -> Iterator[Floats]:
    """Yield, in chunks, all rows of zeros and ones: ``(flips, size)``."""
    start = 0
    for flips in _chunks(2**size, size):
        numbers = np.arange(start, start := start + flips)
        yield (numbers[:, None] >> np.arange(size) & 1).astype(np.float64)


def _random_flips(size: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield, in chunks, random rows of zeros and ones: ``(flips, size)``."""
    random = np.random.default_rng(seed)
    for flips in _chunks(draws, size):
        octets = random.integers(256, size=(flips, -(-size // 8)), dtype=np.uint8)
        yield np.unpackbits(octets, axis=1, count=size).astype(np.float64)


def _chunks(draws: int, size: int) -> Iterator[int]:
    """Yield the sizes of chunks of draws with ``size`` numbers each."""
    most = max(1, CHUNK // max(1, size))
    for start in range(0, draws, most):
        yield min(most, draws - start)
