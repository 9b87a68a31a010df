"""Parts of the error: textbook cases, loops over subjects, resampled people, and simulated errors."""

import numpy as np
import pytest
from made_up_people import people, photos_of, samples

from mtmsa_lightning.evaluation.over_time.photos import Photos
from mtmsa_lightning.evaluation.over_time.variance import (
    AS_THEY_ARE,
    BY_AGE,
    age_basis,
    components,
    mean_error,
    subject_moments,
    variance_table,
    variances,
)

SHROUT_AND_FLEISS = [
    [9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7],
]  # fmt: skip
"""Six subjects by four judges, table 2 of their paper; mean squares 11.24 and 6.26, ICC(1, 1) 0.17."""


def constant(photos):
    return np.ones((len(photos.age), 1))


def found_in(photos, basis):
    return [float(part[0]) for part in components(subject_moments(photos, basis).sum(0, keepdims=True))]


def looped(errors_by_subject):
    """Return the variances between and within subjects, by loops over them (Searle et al., section 3.6)."""
    subjects, counts = len(errors_by_subject), [len(each) for each in errors_by_subject]
    photos, mean = sum(counts), np.mean(np.concatenate(errors_by_subject))
    within = sum(sum((error - np.mean(each)) ** 2 for error in each) for each in errors_by_subject)
    between = sum(len(each) * (np.mean(each) - mean) ** 2 for each in errors_by_subject)
    number = (photos - sum(count**2 for count in counts) / photos) / (subjects - 1)
    of_photo = within / (photos - subjects)
    return max(0.0, (between / (subjects - 1) - of_photo) / number), of_photo


def test_a_case_computed_by_hand():
    """Errors 1 and 3, 5 and 7, 9 and 11: mean squares 32 and 2, and a mean of 6."""
    errors = [[1, 3], [5, 7], [9, 11]]
    rows = [(number, 30, 30 + error) for number, each in enumerate(errors) for error in each]
    assert found_in(photos_of(rows), constant(photos_of(rows))) == pytest.approx([36, 15, 2])


def test_shrout_and_fleiss():
    rows = [(number, 30, 30 + error) for number, each in enumerate(SHROUT_AND_FLEISS) for error in each]
    photos = photos_of(rows)
    _, between, within = found_in(photos, constant(photos))
    assert (4 * between + within, within) == pytest.approx((11.24, 6.26), abs=0.005)
    table = variance_table(photos, {AS_THEY_ARE: variances(photos, constant(photos), draws=5)})
    assert table["icc"][0] == pytest.approx(0.17, abs=0.005)
    assert table.filter(like="_low").isna().all(axis=None), "six people have no interval"


def test_samples_are_people_with_a_curve_of_their_own():
    photos = people(14, seed=2)
    basis = age_basis(photos)
    assert basis.shape[1] == 2, "one straight line for fewer than twenty people"
    drawn = variances(photos, basis, draws=25, seed=4).drawn
    for sample, (number, rows) in enumerate(samples(photos, 25, seed=4)):
        error, columns = photos.error[rows], basis[rows]
        mean = columns @ np.linalg.lstsq(columns, error, rcond=None)[0]
        expected = looped([(error - mean)[number == each] for each in np.unique(number)])
        assert drawn.common[sample] == pytest.approx((mean**2).mean())
        assert (drawn.between[sample], drawn.within[sample]) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [[(0, 20, 21), (0, 30, 33)], [(0, 20, 21), (1, 30, 33)]])
def test_one_person_or_one_photo_of_each_has_no_variances(rows):
    photos = photos_of(rows)
    assert np.isnan(found_in(photos, constant(photos))[1])
    table = variance_table(photos, {BY_AGE: variances(photos, age_basis(photos), draws=5)})
    assert np.isnan(table["icc"][0])


def test_simulated_parts_are_found_and_the_effect_of_age_is_nobodys_own():
    """The mean error falls by 0.2 per year; people 3 years, photos 2 years of standard deviation."""
    photos = people(500, seed=1)
    basis = age_basis(photos)
    assert basis.shape[1] == 11
    expected = -0.2 * (photos.age - 40)
    np.testing.assert_allclose(mean_error(photos, basis), expected, atol=1)
    rows = {BY_AGE: variances(photos, basis, 200), AS_THEY_ARE: variances(photos, constant(photos), 200)}
    table = variance_table(photos, rows).set_index("errors")
    true = {"between_sd": 3, "within_sd": 2, "common_sd": np.sqrt((expected**2).mean()), "icc": 9 / 13}
    for name, value in true.items():
        row = table.loc[BY_AGE]
        assert row[f"{name}_low"] < value < row[f"{name}_high"], name
        assert row[name] == pytest.approx(value, rel=0.15)
    shares = table[["common_share", "between_share", "within_share"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    total = (table[["common_sd", "between_sd", "within_sd"]] ** 2).sum(axis=1)
    np.testing.assert_allclose(total, (photos.error**2).mean(), rtol=0.02)
    assert table.loc[AS_THEY_ARE, "within_sd"] > 2.3, "ages of a person differ"


def test_equal_errors_are_common():
    photos = Photos(np.array([0, 0, 1, 1]), np.full(4, 30.0), np.full(4, 34.0))
    assert found_in(photos, age_basis(photos)) == pytest.approx([16, 0, 0])
    table = variance_table(photos, {BY_AGE: variances(photos, age_basis(photos), draws=5)})
    assert table["common_share"][0] == pytest.approx(1)
