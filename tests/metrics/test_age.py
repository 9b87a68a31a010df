import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtmsa_lightning.metrics import (
    AgeBias,
    AgeMAE,
    AgeRMSE,
    CumulativeScore,
    CumulativeScoreArea,
    CumulativeScoreCurve,
    DecadeMAE,
    WorstDecadeMAE,
)
from mtmsa_lightning.models.distributions import GaussianAge

NAN = math.nan
LOW = torch.tensor([20.0, 30.0, 4.0, NAN, 50.0])
HIGH = torch.tensor([20.0, 30.0, 6.0, NAN, 50.0])
PREDICTED = torch.tensor([25.0, 29.5, 99.0, 1.0, 55.5])
FACES = (GaussianAge(PREDICTED, torch.ones(5)), LOW, HIGH)


def measured(metric, *batches):
    for batch in batches:
        metric.update(*batch)
    return metric.compute().tolist()


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (AgeMAE(), (5 + 0.5 + 5.5) / 3),
        (AgeRMSE(), math.sqrt((25 + 0.25 + 30.25) / 3)),
        (AgeBias(), (5 - 0.5 + 5.5) / 3),
        (CumulativeScoreArea(10), (0.5 + 0.95 + 0.45) / 3),
        (CumulativeScoreArea(5), (0 + 0.9 + 0) / 3),
    ],
)
def test_errors_are_those_of_the_exact_labels_alone(metric, expected):
    assert measured(metric, FACES) == pytest.approx(expected)


@pytest.mark.parametrize(("threshold", "share"), [(0.4, 0), (0.5, 1 / 3), (4.99, 1 / 3), (5, 2 / 3), (6, 1)])
def test_cumulative_score_includes_its_threshold_and_does_not_round(threshold, share):
    assert measured(CumulativeScore(threshold), FACES) == pytest.approx(share)


def test_the_curve_holds_the_cumulative_score_of_every_year():
    curve = measured(CumulativeScoreCurve(7), FACES)
    assert curve == [measured(CumulativeScore(n), FACES) for n in range(8)]


@given(arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 50)))
def test_the_area_is_the_integral_of_the_curve_over_all_tolerances(errors):
    zero = torch.zeros(len(errors))
    area = measured(CumulativeScoreArea(30), (GaussianAge(torch.tensor(errors), zero + 1), zero, zero))
    tolerances = (np.arange(30_000) + 0.5) / 1000
    assert area == pytest.approx((errors[:, None] <= tolerances).mean(), abs=1e-3)


def faces_of(ages, errors):
    ages = torch.tensor(ages)
    return GaussianAge(ages + torch.tensor(errors), torch.ones(len(ages))), ages, ages


def test_decades_are_those_of_the_true_age_and_small_ones_have_no_metric():
    batch = faces_of([0.0, 9.0, 10.0, 19.0, 20.0, 130.0, 125.0], [1.0, -2.0, 3.0, -4.0, 9.0, 5.0, 7.0])
    errors = measured(DecadeMAE(2), batch)
    assert len(errors) == 14
    assert errors[:2] == [1.5, 3.5]
    assert math.isnan(errors[2]), "one face"
    assert measured(DecadeMAE(1), batch)[12:] == [7.0, 5.0]
    assert measured(WorstDecadeMAE(2), batch) == 3.5
    assert measured(WorstDecadeMAE(1), batch) == 9.0
    assert math.isnan(measured(WorstDecadeMAE(3), batch))


@given(st.data(), st.integers(1, 30))
def test_metrics_agree_with_numpy(data, n):
    ages = arrays.arrays(np.float64, n, elements=st.floats(0, 100))
    predicted, age = data.draw(ages), data.draw(ages)
    known = data.draw(arrays.arrays(bool, n))
    age[~known] = NAN
    batch = GaussianAge(torch.tensor(predicted), torch.ones(n)), torch.tensor(age), torch.tensor(age)
    error = (predicted - age)[known]
    nothing = not known.any()
    expected = {
        AgeMAE(): NAN if nothing else np.abs(error).mean(),
        AgeRMSE(): NAN if nothing else np.sqrt((error**2).mean()),
        AgeBias(): NAN if nothing else error.mean(),
        CumulativeScore(5): NAN if nothing else (np.abs(error) <= 5).mean(),
    }
    for metric, value in expected.items():
        assert measured(metric, batch) == pytest.approx(value, abs=1e-9, nan_ok=True)
    decade = (age[known] // 10).astype(int)
    by_decade = [np.abs(error)[decade == d].mean() if (decade == d).any() else NAN for d in range(14)]
    np.testing.assert_allclose(measured(DecadeMAE(1), batch), by_decade, atol=1e-9)


@pytest.mark.parametrize("metric", [AgeMAE(), CumulativeScore(), CumulativeScoreCurve(), DecadeMAE()])
def test_shapes_that_would_broadcast_are_refused(metric):
    with pytest.raises(ValueError, match="labels"):
        metric.update(GaussianAge(torch.zeros(3, 1), torch.ones(3, 1)), torch.zeros(3), torch.zeros(3))


def test_a_decade_of_undefined_predictions_is_the_worst():
    ages = torch.tensor([21.0, 22.0, 31.0])
    assert math.isnan(WorstDecadeMAE(1)(torch.tensor([20.0, 22.0, math.nan]), ages))
    assert WorstDecadeMAE(2)(torch.tensor([20.0, 22.0, math.nan]), ages) == 0.5
