"""Errors by group agree with pandas, and a balanced error counts every decade the same."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtmsa_lightning.metrics import AgeBalancedMAE, AgeMAE, DecadeMAE, GroupMAE, functional
from mtmsa_lightning.models.distributions import GaussianAge

NAN = math.nan


@given(st.data(), st.integers(1, 40))
def test_errors_agree_with_pandas(data, n):
    ages = arrays.arrays(np.float64, n, elements=st.floats(0, 120))
    predicted, age = data.draw(ages), data.draw(ages)
    group = data.draw(arrays.arrays(np.int64, n, elements=st.integers(-1, 3)))
    age[data.draw(arrays.arrays(bool, n))] = NAN
    faces = pd.DataFrame({"error": np.abs(predicted - age), "group": group, "decade": age // 10}).dropna()
    by_group = faces.groupby("group")["error"].mean().reindex(range(4))
    by_decade = faces.groupby("decade")["error"].mean()
    preds = GaussianAge(torch.tensor(predicted), torch.ones(n))
    found = functional.group_mae(preds, torch.tensor(age), torch.tensor(group), groups=4)
    np.testing.assert_allclose(found, by_group, rtol=1e-12)
    balanced = functional.age_balanced_mae(preds, torch.tensor(age))
    np.testing.assert_allclose(balanced, by_decade.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        functional.decade_mae(preds, torch.tensor(age), min_faces=1), by_decade.reindex(range(14)), rtol=1e-12
    )


def test_a_rare_decade_counts_as_much_as_a_common_one():
    ages = torch.tensor([20.0] * 9 + [70.0])
    preds = torch.tensor([21.0] * 9 + [80.0])
    assert AgeMAE()(preds, ages) == pytest.approx(1.9)
    assert AgeBalancedMAE()(preds, ages) == pytest.approx(5.5)
    assert AgeBalancedMAE(min_faces=2)(preds, ages) == pytest.approx(1.0)
    assert AgeBalancedMAE(min_faces=20)(preds, ages).isnan()


def test_age_groups_and_missing_groups_are_ignored():
    low, high = torch.tensor([20.0, 30, NAN, 40]), torch.tensor([20.0, 35, NAN, 40])
    metric = GroupMAE(2)
    metric.update(torch.tensor([22.0, 1, 1, 1]), low, torch.tensor([1, 1, 0, -1]), high)
    np.testing.assert_array_equal(metric.compute(), [NAN, 2.0])
    metric.update(torch.tensor([26.0]), torch.tensor([20.0]), torch.tensor([1]))
    np.testing.assert_array_equal(metric.compute(), [NAN, 4.0])
    assert functional.group_mae(torch.tensor([22.0]), torch.tensor([20.0]), torch.tensor([2])).shape == (3,)


def test_an_undefined_prediction_makes_the_balanced_error_undefined():
    ages = torch.tensor([21.0, 22, 31])
    assert AgeBalancedMAE()(torch.tensor([20.0, 22, NAN]), ages).isnan()
    assert AgeBalancedMAE(2)(torch.tensor([20.0, 22, NAN]), ages) == 0.5


def test_wrong_shapes_are_refused():
    for metric, extra in ((GroupMAE(2), (torch.zeros(1, dtype=torch.int64),)), (DecadeMAE(), ())):
        with pytest.raises(ValueError, match="labels"):
            metric.update(torch.zeros(2) if extra else torch.zeros(3), torch.zeros(2), *extra)
