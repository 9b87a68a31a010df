import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from mtmsa_lightning import metrics
from mtmsa_lightning.metrics import functional
from mtmsa_lightning.models.distributions import CategoricalAge, GaussianAge, LaplaceAge

MEAN = torch.tensor([20.0, 31.5, 40.0, 25.0, 60.0, math.nan], dtype=torch.float64)
STD = torch.tensor([4.0, 2.5, 0.0, 0.0, 7.0, 3.0], dtype=torch.float64)
PREDICTED = torch.tensor([24.0, 30.0, 40.0, 26.0, 60.0, 30.0], dtype=torch.float64)


def test_the_epsilon_error_of_a_hand_computed_case():
    expected = [
        1 - math.exp(-0.5),
        1 - math.exp(-(1.5**2) / (2 * 2.5**2)),
        0,
        1,
        0,
    ]  # std 0: exact, not exact
    assert functional.epsilon_error(PREDICTED, MEAN, STD).item() == pytest.approx(np.mean(expected))
    distribution = GaussianAge(PREDICTED, torch.full_like(PREDICTED, 9))
    assert functional.epsilon_error(distribution, MEAN, STD).item() == pytest.approx(np.mean(expected))
    assert functional.epsilon_error(PREDICTED[:0], MEAN[:0], STD[:0]).isnan()


@given(st.floats(0, 90), st.floats(0, 90), st.floats(0.1, 15), st.floats(-20, 20))
@settings(max_examples=30)
def test_the_epsilon_error_is_a_fraction_that_moves_with_the_ages(predicted, mean, std, shift):
    def error(moved):
        given = torch.tensor([predicted + moved, mean + moved, std], dtype=torch.float64)
        return functional.epsilon_error(*given.unsqueeze(1)).item()

    assert 0 <= error(0) <= 1
    assert error(shift) == pytest.approx(error(0), abs=1e-9)


def categorical():
    """Probabilities of the years 0 to 100 around 30 and 55, for two faces."""
    years = np.arange(101)
    pmf = np.stack([stats.norm.pdf(years, 30, 4), 0.6 * stats.norm.pdf(years, 55, 3) + 0.4 * (years == 40)])
    return CategoricalAge(torch.tensor(np.log(pmf / pmf.sum(1, keepdims=True) + 1e-300)))


@pytest.mark.parametrize(
    "distribution",
    [
        GaussianAge(torch.tensor([30.0, 50.0]), torch.tensor([4.0, 9.0])),
        LaplaceAge(torch.tensor([30.0, 50.0]), torch.tensor([4.0, 9.0])),
        categorical(),
    ],
    ids=["normal", "laplace", "categorical"],
)
@pytest.mark.parametrize("std", [0.0, 3.0])
def test_distance_and_coverage_are_those_of_numerical_integration(distribution, std):
    mean, stds = torch.tensor([33.0, 47.0], dtype=torch.float64), torch.full((2,), std, dtype=torch.float64)
    x = np.linspace(-60, 160, 40_001)
    below = distribution.interval_prob(-math.inf, torch.tensor(x)[:, None])  # P(age <= x), (points, faces)
    step = (x[:, None] >= mean.numpy()).astype(float)
    votes = stats.norm.cdf(x[:, None], mean, std) if std else step
    distance = integrate.trapezoid((below.numpy() - votes) ** 2, x, axis=0)
    assert functional.votes_crps(distribution, mean, stds).item() == pytest.approx(distance.mean(), abs=0.02)
    first, last = (end.numpy() for end in distribution.interval(0.8))
    if std:
        covered = stats.norm.cdf(last, mean, std) - stats.norm.cdf(first, mean, std)
    else:
        covered = (first <= mean.numpy()) & (mean.numpy() <= last)
    found = functional.votes_coverage(distribution, mean, stds, level=0.8).item()
    assert found == pytest.approx(covered.mean(), abs=1e-9)


def test_predictions_equal_to_the_guesses_are_at_distance_0_and_calibrated():
    same = GaussianAge(MEAN[:2], STD[:2])
    assert functional.votes_crps(same, MEAN[:2], STD[:2]).item() == pytest.approx(0, abs=1e-4)
    for level in (0.5, 0.9):
        assert functional.votes_coverage(same, MEAN[:2], STD[:2], level).item() == pytest.approx(level)


def test_batches_add_up():
    metric = metrics.EpsilonError()
    for rows in (slice(0, 2), slice(2, 6)):
        metric.update(PREDICTED[rows], MEAN[rows], STD[rows])
    assert metric.compute() == functional.epsilon_error(PREDICTED, MEAN, STD)
