"""Photos of made-up people."""

import numpy as np

from mtmsa_lightning.evaluation.over_time.photos import Photos
from mtmsa_lightning.evaluation.resampling import bootstrap_weights


def photos_of(rows) -> Photos:
    """Return photos of rows ``(subject, age, estimate)`` with subjects numbered from 0."""
    subject, age, estimate = np.array(sorted(rows), float).reshape(-1, 3).T
    return Photos(np.unique(subject, return_inverse=True)[1].astype(np.int64), age, estimate)


def people(subjects: int = 12, seed: int = 0, between: float = 3.0, within: float = 2.0) -> Photos:
    """Return up to eight photos of each subject; the mean error falls by 0.2 years per year."""
    random = np.random.default_rng(seed)
    subject = np.repeat(np.arange(subjects), random.integers(1, 9, subjects))
    age = random.integers(20, 40, subjects)[subject] + random.integers(0, 25, len(subject))
    own = random.normal(0, between, subjects)[subject] + random.normal(0, within, len(subject))
    return photos_of(zip(subject, age, age - 0.2 * (age - 40) + own, strict=True))


def samples(photos: Photos, draws: int, seed: int = 0):
    """Yield the rows of the photos of each bootstrap sample, with a number of its own for each drawn subject.

    The resampled subjects of the package are written out one after another.
    """
    for weights in np.concatenate([*bootstrap_weights(photos.subjects, draws, seed)]):
        drawn = np.repeat(np.arange(photos.subjects), weights.astype(int))
        rows = [np.flatnonzero(photos.subject == each) for each in drawn]
        number = np.repeat(np.arange(len(drawn)), [len(each) for each in rows])
        yield number, np.concatenate(rows)
