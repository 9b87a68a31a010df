import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import norm

from mtmsa_lightning.metrics import AgeIntervalNLL, AgeMAE, AgeNLL, CumulativeScore
from mtmsa_lightning.models.age_distribution import GaussianAge

NAN = math.nan
LOW = torch.tensor([20.0, 30.0, 4.0, NAN, 50.0])
HIGH = torch.tensor([20.0, 30.0, 6.0, NAN, 50.0])
PREDICTED = torch.tensor([25.0, 29.5, 99.0, 1.0, 55.5])
DISTRIBUTION = GaussianAge(PREDICTED, torch.tensor([2.0, 3.0, 5.0, 1.0, 4.0]))


def measured(metric, *batches):
    for batch in batches:
        metric.update(*batch)
    return metric.compute().item()


def test_mae_counts_exact_labels_only():
    assert measured(AgeMAE(), (PREDICTED, LOW, HIGH)) == pytest.approx((5 + 0.5 + 5.5) / 3)


@pytest.mark.parametrize(("threshold", "share"), [(0.4, 0), (0.5, 1 / 3), (4.99, 1 / 3), (5, 2 / 3), (6, 1)])
def test_cumulative_score_includes_its_threshold_and_does_not_round(threshold, share):
    assert measured(CumulativeScore(threshold), (PREDICTED, LOW, HIGH)) == pytest.approx(share)


def test_nll_is_the_density_of_exact_ages():
    expected = -norm.logpdf([20, 30, 50], [25, 29.5, 55.5], [2, 3, 4]).mean()
    assert measured(AgeNLL(), (DISTRIBUTION, LOW, HIGH)) == pytest.approx(expected)


def test_interval_nll_is_the_mass_of_groups_and_stays_finite_in_the_tail():
    expected = -(
        norm.logcdf(6.5, 99, 5) + np.log1p(-np.exp(norm.logcdf(3.5, 99, 5) - norm.logcdf(6.5, 99, 5)))
    )
    assert measured(AgeIntervalNLL(), (DISTRIBUTION, LOW, HIGH)) == pytest.approx(expected)
    far = GaussianAge(torch.tensor([1e4]), torch.tensor([1.0]))
    assert 4e7 < measured(AgeIntervalNLL(), (far, torch.tensor([4.0]), torch.tensor([6.0]))) < 6e7


METRICS = [
    (AgeMAE, PREDICTED),
    (CumulativeScore, PREDICTED),
    (AgeNLL, DISTRIBUTION),
    (AgeIntervalNLL, DISTRIBUTION),
]


@pytest.mark.parametrize(("metric", "prediction"), METRICS)
def test_nothing_counted_is_nan(metric, prediction):
    assert math.isnan(measured(metric(), (prediction, torch.full((5,), NAN), torch.full((5,), NAN))))


@pytest.mark.parametrize(("metric", "prediction"), METRICS[:2])
def test_merged_states_equal_one_metric_fed_everything(metric, prediction):
    first, second, whole = metric(), metric(), metric()
    first.update(prediction[:1], LOW[:1], HIGH[:1])
    second.update(prediction[1:], LOW[1:], HIGH[1:])
    whole.update(prediction, LOW, HIGH)
    assert (first.total.dtype, first.count.dtype) == (torch.float64, torch.int64)
    first.merge_state(second)
    assert first.compute() == whole.compute()


@given(st.data(), st.integers(1, 30))
def test_mae_and_score_agree_with_numpy(data, n):
    ages = arrays.arrays(np.float64, n, elements=st.floats(0, 100))
    predicted, age = data.draw(ages), data.draw(ages)
    known = data.draw(arrays.arrays(bool, n))
    age[~known] = NAN
    batch = [torch.from_numpy(a) for a in (predicted, age, age)]
    error = np.abs(predicted - age)[known]
    expected = (error.mean(), (error <= 5).mean()) if known.any() else (NAN, NAN)
    assert measured(AgeMAE(), batch) == pytest.approx(expected[0], nan_ok=True)
    assert measured(CumulativeScore(5), batch) == pytest.approx(expected[1], nan_ok=True)


@pytest.mark.parametrize("metric", [AgeMAE(), CumulativeScore()])
def test_shapes_that_would_broadcast_are_refused(metric):
    with pytest.raises(ValueError, match="labels"):
        metric.update(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3))
