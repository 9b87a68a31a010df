"""How much of the error is common to an age, a person's own, or a single photo's.

A photo j of person i at age a has the signed error ``m(a) + p_i + q_ij``: the mean error of all people of the
age, the person's own deviation with the variance *between* people, and that of the photo with the variance
*within* people. They are estimated from the sums of squares between and within subjects (the analysis of
variance estimators of the one-way random model with unequal numbers: Searle, Casella and McCulloch, "Variance
Components", Wiley, 1992, section 3.6). The intraclass correlation ``between / (between + within)`` is ICC(1,
1) of Shrout and Fleiss, "Intraclass correlations: uses in assessing rater reliability", Psychological
Bulletin 86, 1979.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.over_time.columns import with_ends
from mtmsa_lightning.evaluation.over_time.photos import Photos
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS, Floats, bootstrap_sums, divide
from mtmsa_lightning.settings.defaults import DRAWS

AS_THEY_ARE = "as they are"
"""Name of the row of errors from which only their mean is removed."""

BY_AGE = "without the mean of each age"
"""Name of the row of errors from which the mean error of each true age is removed: the headline."""

PEOPLE_PER_PIECE = 10
"""Number of subjects for each straight piece of the curve of the mean error over age."""

MOST_PIECES = 10
"""Largest number of pieces of the curve."""


class Components(NamedTuple):
    """Parts of the mean squared error in squared years, of any shape.

    Attributes:
        common: Mean square of the mean error ``m``.
        between: Variance between people, at least 0.
        within: Variance within people.
    """

    common: Floats
    between: Floats
    within: Floats

    @property
    def total(self) -> Floats:
        """Sum of the parts, the mean squared error that they explain."""
        return self.common + self.between + self.within

    @property
    def icc(self) -> Floats:
        """Intraclass correlation of the errors without ``m``; NaN where these are all 0."""
        return divide(self.between, self.between + self.within)


def age_basis(photos: Photos) -> Floats:
    """Return the basis of a continuous curve over true age of straight pieces, ``(N, knots)``.

    Knots are quantiles of the ages; there is a piece for every ``PEOPLE_PER_PIECE`` subjects, at least one
    and at most ``MOST_PIECES``. Rows add up to 1.
    """
    pieces = int(np.clip(photos.subjects // PEOPLE_PER_PIECE, 1, MOST_PIECES))
    knots = np.unique(np.quantile(photos.age, np.linspace(0, 1, pieces + 1)))
    return np.stack([np.interp(photos.age, knots, row) for row in np.eye(len(knots))], axis=1)


def mean_error(photos: Photos, basis: Floats) -> Floats:
    """Return the mean error ``m`` at the age of each photo, ``(N,)``, by least squares on a basis."""
    return np.asarray(basis @ np.linalg.lstsq(basis, photos.error, rcond=None)[0])


def subject_moments(photos: Photos, basis: Floats) -> Floats:
    """Return sums by subject, ``(subjects, 3 + q (q + 1))``, from which :func:`components` follow.

    They are 1, the number of photos and its square, and the upper triangles of the sums of squares and
    products between and within subjects of the ``q`` columns of the basis and the errors.
    """
    columns = np.column_stack([basis, photos.error])
    photos_of = photos.counts.astype(np.float64)

    def by_subject(values: Floats) -> Floats:
        return np.asarray(np.bincount(photos.subject, values, photos.subjects), np.float64)

    means = np.stack([by_subject(column) / photos_of for column in columns.T])
    rest = columns - means[:, photos.subject].T
    upper = np.triu_indices(columns.shape[1])
    between = [photos_of * means[row] * means[column] for row, column in zip(*upper, strict=True)]
    within = [by_subject(rest[:, row] * rest[:, column]) for row, column in zip(*upper, strict=True)]
    return np.stack([np.ones_like(photos_of), photos_of, photos_of**2, *between, *within], axis=1)


def components(sums: Floats) -> Components:
    """Return the parts of the error of B sums of :func:`subject_moments`, ``(B, 3 + q (q + 1))``.

    Each of them has its own curve ``m``; the few degrees of freedom that it takes are neglected. NaN without
    two subjects, or without two photos of one.
    """
    subjects, photos, squares = sums[:, :3].T
    between, within = (_symmetric(part) for part in np.split(sums[:, 3:], 2, axis=1))
    moments = between + within
    inner, outer = moments[:, :-1, :-1], moments[:, :-1, -1]
    fitted = np.einsum("bij,bj->bi", np.linalg.pinv(inner, rcond=1e-10, hermitian=True), outer)
    rest = np.concatenate([-fitted, np.ones((len(sums), 1))], axis=1)
    of_between, of_within = (np.einsum("bi,bij,bj->b", rest, part, rest) for part in (between, within))
    common = divide(np.einsum("bi,bij,bj->b", fitted, inner, fitted), photos)
    of_photo = np.maximum(divide(of_within, photos - subjects), 0.0)
    mean_number = divide(photos - divide(squares, photos), subjects - 1)
    of_person = divide(divide(of_between, subjects - 1) - of_photo, mean_number)
    return Components(common, np.maximum(of_person, 0.0), of_photo)


def _symmetric(upper: Floats) -> Floats:
    """Return matrices ``(B, q, q)`` of their upper triangles ``(B, q (q + 1) / 2)``."""
    size = int(np.sqrt(2 * upper.shape[1]))
    rows, columns = np.triu_indices(size)
    full = np.zeros((len(upper), size, size))
    full[:, rows, columns] = full[:, columns, rows] = upper
    return full


class Variances(NamedTuple):
    """Parts of the error with their bootstrap samples.

    Attributes:
        found: Each part ``(1,)``.
        drawn: Each part ``(B,)``.
    """

    found: Components
    drawn: Components


def variances(photos: Photos, basis: Floats, draws: int = DRAWS, seed: int = 0) -> Variances:
    """Return the parts of the error, and those of bootstrap samples of subjects, each with its own curve."""
    totals = subject_moments(photos, basis)
    drawn = components(bootstrap_sums(totals, draws, seed))
    return Variances(components(totals.sum(0, keepdims=True)), drawn)


def variance_table(photos: Photos, rows: dict[str, Variances]) -> pd.DataFrame:
    """Return the parts of the error, a row per way in which a mean is removed from the errors.

    Returns:
        ``errors`` (:data:`AS_THEY_ARE` or :data:`BY_AGE`), ``subjects``, ``photos``, and, each with ``_low``
        and ``_high`` (95 %, bootstrap by subject): the root of each part in years, ``common_sd``,
        ``between_sd`` and ``within_sd``; its share in the sum of the three, ``common_share`` ...; ``icc``.
    """
    enough = np.array([photos.subjects >= MIN_CLUSTERS])
    table = []
    for name, (found, drawn) in rows.items():
        columns: dict[str, object] = {"errors": [name], "subjects": photos.subjects}
        columns["photos"] = len(photos.age)
        for part, value, moved in zip(found._fields, found, drawn, strict=True):
            columns |= with_ends(f"{part}_sd", np.sqrt(value), np.sqrt(moved)[:, None], enough)
            shares = divide(value, found.total), divide(moved, drawn.total)[:, None]
            columns |= with_ends(f"{part}_share", *shares, enough)
        columns |= with_ends("icc", found.icc, drawn.icc[:, None], enough)
        table.append(pd.DataFrame(columns))
    return pd.concat(table, ignore_index=True)
