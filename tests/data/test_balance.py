"""Weights of balanced sampling agree with scipy's convolutions and with counting by hand."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d
from scipy.signal.windows import gaussian

from mtmsa_lightning.data.balance import balancing_weights
from mtmsa_lightning.errors import ConfigError


@pytest.fixture
def faces(face_table):
    """500 faces, most of them young, with genders and races of different frequency."""
    rng = np.random.default_rng(0)
    ages = np.minimum(rng.exponential(15, 500), 110).astype(int).astype(float)
    gender, race = rng.choice(2, 500, p=[0.8, 0.2]), rng.choice(3, 500, p=[0.7, 0.2, 0.1])
    return face_table(500, age_low=ages, age_high=ages, gender=gender, race=race).frame


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0])
def test_densities_of_ages_are_convolved_with_a_gaussian_kernel(faces, sigma, strength):
    """As `get_lds_kernel_window` and `convolve1d` of Yang et al.'s code, with an untruncated kernel."""
    counts = np.bincount(faces["age_low"].astype(int), minlength=131).astype(float)
    smooth = convolve1d(counts, gaussian(261, sigma), mode="constant")
    expected = smooth[faces["age_low"].astype(int)] ** -strength
    weights = balancing_weights(faces, ["age"], strength, sigma)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-9)


@pytest.mark.parametrize("by", [["gender"], ["race", "gender"], ["age"], ["age", "gender"]])
def test_without_smoothing_every_combination_of_labels_has_the_same_weight_in_total(faces, by):
    weights = balancing_weights(faces, by, smoothing=0)
    columns = ["age_low" if name == "age" else name for name in by]
    totals = faces.assign(weight=weights).groupby(columns)["weight"].sum()
    np.testing.assert_allclose(totals, len(faces) / len(totals))


def test_ages_are_smoothed_within_each_class(faces):
    weights = balancing_weights(faces, ["age", "gender"])
    for gender in (0, 1):
        rows = (faces["gender"] == gender).to_numpy()
        alone = balancing_weights(faces[rows], ["age"])
        np.testing.assert_allclose(weights[rows] / weights[rows].mean(), alone)


def test_strength_lies_between_uniform_and_balanced(faces):
    assert (balancing_weights(faces, strength=0) == 1).all()
    half, whole = (balancing_weights(faces, strength=strength) for strength in (0.5, 1))
    np.testing.assert_allclose(half**2 / whole, (half**2 / whole)[0])


def test_age_groups_count_at_their_midpoint(face_table):
    exact = face_table(3, age_low=[10.0, 10, 40], age_high=[10.0, 10, 40]).frame
    groups = face_table(3, age_low=[8.0, 10, 38], age_high=[12.0, 10, 43]).frame
    np.testing.assert_array_equal(balancing_weights(exact), balancing_weights(groups))


def test_faces_without_a_label_keep_weight_1(face_table):
    frame = face_table(5, gender=[0, 0, 0, 1, -1]).frame
    np.testing.assert_allclose(balancing_weights(frame, ["gender"]), [2 / 3, 2 / 3, 2 / 3, 2, 1])
    frame.loc[4, ["age_low", "age_high"]] = np.nan
    assert balancing_weights(frame)[4] == 1


def test_any_column_can_be_balanced(face_table):
    frame = face_table(4).frame.assign(camera=["a", "a", "b", ""])
    np.testing.assert_allclose(balancing_weights(frame, ["camera"]), [0.75, 0.75, 1.5, 1])


def test_wrong_columns_are_named(face_table):
    with pytest.raises(
        ConfigError, match=r"data\.balance_by: the table has no column 'sex'; choose from age,"
    ):
        balancing_weights(face_table(3).frame, ["age", "sex"])
    with pytest.raises(ConfigError, match=r"data\.balance_by \['race'\]: no training face has these labels"):
        balancing_weights(face_table(3, race=[-1, -1, -1]).frame, ["race"])
