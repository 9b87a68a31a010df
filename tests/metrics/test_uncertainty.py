import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.metrics import AURC, ENCE
from mtmsa_lightning.models.distributions import GaussianAge

few = st.lists(st.tuples(st.integers(1, 4), st.floats(0, 40)), min_size=1, max_size=5)
"""Faces as (std, absolute error): small numbers of few distinct stds, so that ties are common."""


def measured(metric, faces):
    std, error = torch.tensor(faces, dtype=torch.float64).reshape(-1, 2).unbind(1)
    metric.update(GaussianAge(30 + error, std), torch.full_like(std, 30), torch.full_like(std, 30))
    return metric.compute().item()


def area(errors):
    return np.mean([np.mean(errors[: k + 1]) for k in range(len(errors))])


def test_the_area_is_the_mean_risk_of_the_surest():
    """Risks 1, (1 + 5) / 2, (1 + 5 + 3) / 3."""
    assert measured(AURC(), [(2.0, 5.0), (1.0, 1.0), (9.0, 3.0)]) == pytest.approx((1 + 3 + 3) / 3)


@given(few)
def test_ties_are_the_expectation_over_all_orders(faces):
    orders = [
        order for order in itertools.permutations(faces) if sorted(order, key=lambda f: f[0]) == list(order)
    ]
    expected = np.mean([area([error for _, error in order]) for order in orders])
    assert measured(AURC(), faces) == pytest.approx(expected, abs=1e-9)


def test_the_curve_names_the_threshold_that_keeps_a_share():
    metric = AURC()
    measured(metric, [(2.0, 5.0), (1.0, 1.0), (9.0, 3.0), (4.0, 3.0)])
    curve = metric.curve()
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == [1.0, 3.0, 3.0, 3.0]
    assert curve.std.tolist() == [1.0, 2.0, 4.0, 9.0]


def ence(std, error, bins):
    """Brute force, for distinct stds."""
    order = np.argsort(std)
    found = []
    for part in np.array_split(order, bins):
        rmv, rmse = np.sqrt((std[part] ** 2).mean()), np.sqrt((error[part] ** 2).mean())
        found.append(abs(rmv - rmse) / rmv)
    return np.mean(found)


@pytest.mark.parametrize(("n", "bins"), [(10, 10), (57, 10), (200, 7)])
def test_ence_agrees_with_brute_force(n, bins):
    random = np.random.default_rng(n)
    std, error = random.uniform(1, 9, n), random.exponential(4, n)
    found = measured(ENCE(bins), np.stack([std, error], 1).tolist())
    assert found == pytest.approx(ence(std, error, bins))


def test_ence_of_one_std_for_all_does_not_depend_on_the_order():
    """Sorting such faces by their error as well would fake a miscalibration of every bin."""
    random = np.random.default_rng(0)
    error = np.abs(random.normal(0, 3, 500))
    found = [measured(ENCE(), [(3.0, e) for e in order]) for order in (error, np.sort(error), error[::-1])]
    assert found == pytest.approx([abs(3 - np.sqrt((error**2).mean())) / 3] * 3)


def test_ence_of_a_calibrated_prediction_is_small_and_of_a_scaled_one_the_scale():
    random = np.random.default_rng(0)
    std = random.uniform(1, 9, 200_000)
    error = np.abs(random.normal(0, std))
    assert measured(ENCE(), np.stack([std, error], 1).tolist()) < 0.01
    assert measured(ENCE(), np.stack([2 * std, error], 1).tolist()) == pytest.approx(0.5, abs=0.01)


def test_too_few_faces_have_no_metric():
    assert np.isnan(measured(AURC(), []))
    assert np.isnan(measured(ENCE(), []))
    assert np.isnan(measured(ENCE(), [(1.0, 1.0)] * 9))
    assert not np.isnan(measured(ENCE(), [(1.0, 1.0)] * 10))


@pytest.mark.parametrize("metric", [ENCE, AURC])
def test_groups_and_missing_labels_do_not_count(metric):
    random = np.random.default_rng(1)
    std, mean = torch.tensor(random.uniform(1, 9, 60)), torch.tensor(random.uniform(20, 60, 60))
    low = torch.tensor(random.integers(20, 60, 60).astype(float))
    high = low.clone()
    high[::3] += 5
    low[1::3] = high[1::3] = torch.nan
    masked, alone = metric(), metric()
    masked.update(GaussianAge(mean, std), low, high)
    alone.update(GaussianAge(mean[2::3], std[2::3]), low[2::3], high[2::3])
    assert masked.compute() == alone.compute()


@pytest.mark.parametrize("metric", [ENCE, AURC])
@pytest.mark.parametrize("broken", ["mean", "std"])
def test_a_nan_prediction_makes_the_metric_nan_if_its_face_is_labelled(metric, broken):
    mean, std = torch.full((20,), 31.0), torch.linspace(1, 5, 20)
    (mean if broken == "mean" else std)[3] = torch.nan
    age = torch.full((20,), 30.0)
    found = metric()
    found.update(GaussianAge(mean, std), age)
    assert found.compute().isnan()
    age[3] = torch.nan
    unlabelled = metric()
    unlabelled.update(GaussianAge(mean, std), age)
    assert not unlabelled.compute().isnan()
