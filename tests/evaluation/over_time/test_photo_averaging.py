"""Means of several photos: all combinations, and the prediction of the parts of the error."""

from itertools import combinations

import numpy as np
import pytest
from made_up_people import people, photos_of

from mtmsa_lightning.evaluation.over_time.averaging import averaging_table, errors_of_means
from mtmsa_lightning.evaluation.over_time.variance import age_basis, mean_error, variances


@pytest.fixture(scope="module")
def photos():
    return people(500, seed=1)


@pytest.fixture(scope="module")
def table(photos):
    basis = age_basis(photos)
    found = averaging_table(photos, mean_error(photos, basis), variances(photos, basis, 200), 200)
    return found.set_index("photos")


@pytest.mark.parametrize("number", [1, 3, 4])
def test_means_are_those_of_combinations_of_a_persons_photos(number):
    """Four photos: of three that are averaged, random orders come near to all combinations."""
    photos = photos_of([(0, 20 + n, 21 + 3 * n) for n in range(4)] + [(1, 30, 32)])
    mean = np.array([0.5, 1.0, 1.5, 2.0, -1.0])
    rest = photos.error - mean
    errors = [
        mean[list(rows)] + rest[list(rows)].mean() for rows in combinations(range(4), number)
    ]  # fmt: skip
    expected = np.mean(np.square(errors)), np.mean(np.abs(errors))
    found = errors_of_means(photos, mean, number)
    np.testing.assert_allclose(found[0], expected, rtol=0.1 if number == 3 else 1e-12)
    np.testing.assert_allclose(found[1], [4, 2] if number == 1 else 0)


def test_one_photo_has_the_error_of_the_photos(photos, table):
    assert table.loc[1, "rmse"] == pytest.approx(np.sqrt((photos.error**2).mean()))
    assert table.loc[1, "mae"] == pytest.approx(np.abs(photos.error).mean())
    assert table.loc[1, "rmse_predicted"] == pytest.approx(table.loc[1, "rmse"], rel=0.02)


def test_measured_means_are_as_predicted(photos, table):
    common, between, within = np.mean((0.2 * (photos.age - 40)) ** 2), 9, 4
    for number in (1, 2, 3, 5, np.inf):
        row = table.loc[number]
        true = np.sqrt(common + between + within / number)
        assert row["rmse_predicted_low"] < true < row["rmse_predicted_high"]
        assert row["rmse_predicted"] == pytest.approx(true, rel=0.08)
    for number in (2, 3, 5):
        row = table.loc[number]
        assert row["subjects"] == (photos.counts >= number).sum()
        assert row["rmse_low"] < row["rmse_predicted"] < row["rmse_high"]
        assert row["mae"] < row["mae_single"]
        kept = photos.counts[photos.subject] >= number
        assert row["rmse_single"] == pytest.approx(np.sqrt((photos.error[kept] ** 2).mean()))
    assert np.isnan(table.loc[np.inf, "rmse"])


def test_nothing_is_measured_on_a_few_people():
    photos = people(11)
    basis = age_basis(photos)
    table = averaging_table(photos, mean_error(photos, basis), variances(photos, basis, 5), 5)
    measured = table.set_index("photos")["rmse"].notna()
    enough = {number: (photos.counts >= number).sum() >= 10 for number in (1, 2, 3, 5)}
    assert {number: measured[number] for number in enough} == enough
    assert not measured[5]
