"""Photos of known people, which the evaluation over time compares."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.resampling import Floats

Numbers = npt.NDArray[np.int64]


class Photos(NamedTuple):
    """N photos of known subjects with exact ages, sorted by subject, age and estimate.

    Attributes:
        subject: Number of the subject, from 0, ``(N,)``.
        age: True age in completed years, ``(N,)``.
        estimate: Mean of the predicted age in years, ``(N,)``.
    """

    subject: Numbers
    age: Floats
    estimate: Floats

    @property
    def error(self) -> Floats:
        """Signed errors in years, ``(N,)``; plus: estimated too old."""
        return self.estimate - self.age

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return int(self.subject.max(initial=-1)) + 1

    @property
    def counts(self) -> Numbers:
        """Number of photos of each subject, ``(subjects,)``."""
        return np.bincount(self.subject, minlength=self.subjects)


def photos_of_subjects(predictions: Predictions) -> Photos:
    """Return the faces with a subject and an exact age, each id once (its first row).

    Age groups are left out, as the difference of two groups is not known.
    """
    assert predictions.age is not None
    age = predictions.age_low.numpy()
    known = (predictions.subjects != "") & (age == predictions.age_high.numpy())
    rows = np.unique(predictions.ids, return_index=True)[1]
    rows = rows[known[rows]]
    age, estimate = age[rows], predictions.age.mean.double().numpy()[rows]
    subject = np.unique(predictions.subjects[rows], return_inverse=True)[1].astype(np.int64)
    order = np.lexsort((estimate, age, subject))
    return Photos(subject[order], age[order], estimate[order])


def thinned(photos: Photos, most: int, seed: int = 0) -> Photos:
    """Return at most ``most`` photos of each subject, drawn by the seed."""
    order, place = shuffled(photos, np.random.default_rng(seed))
    kept = np.sort(order[place < most])
    return Photos(photos.subject[kept], photos.age[kept], photos.estimate[kept])


def shuffled(photos: Photos, random: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Return the positions of all photos, by subject and shuffled within each, and their places from 0."""
    order = np.lexsort((random.random(len(photos.age)), photos.subject))
    first = np.searchsorted(photos.subject, photos.subject)
    return order.astype(np.int64), (np.arange(len(order)) - first).astype(np.int64)
