import math
import statistics
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.baselines import constant_age_mae

AGES = st.lists(st.integers(0, 130), min_size=1, max_size=20)


def table(low: list[float], high: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"age_low": low, "age_high": high or low}, dtype=float)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (table([20, 40]), table([30]), 0),
        (table([20, 40]), table([20, 30, 50]), 10),
        (table([0, 8], [2, 12]), table([5, 6]), 0.5),  # groups train by their midpoints, 1 and 10
        (table([20, 40, np.nan]), table([20, np.nan, 25], [20, np.nan, 32]), 10),  # only exact ages count
    ],
)
def test_constant_age_mae(train, test, expected):
    assert constant_age_mae(train, test) == pytest.approx(expected)


@given(AGES, AGES)
def test_constant_age_mae_against_plain_python(train, test):
    guess = statistics.fmean(train)
    expected = statistics.fmean(abs(age - guess) for age in test)
    assert constant_age_mae(table(train), table(test)) == pytest.approx(expected)


def test_no_exact_age_has_no_mae():
    assert math.isnan(constant_age_mae(table([20, 30]), table([25], [32])))


@pytest.mark.parametrize("train", [table([]), table([np.nan]), pd.DataFrame({"age_low": [], "age_high": []})])
def test_no_training_age_has_no_mae(train):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(constant_age_mae(train, table([20, 30])))
