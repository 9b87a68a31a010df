import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from mtmsa_lightning.metrics import AgeCRPS, AgeIntervalNLL, AgeNLL, IntervalCoverage, IntervalWidth
from mtmsa_lightning.models.distributions import GaussianAge

NAN = math.nan
LOW = torch.tensor([20.0, 30.0, 4.0, NAN, 50.0])
HIGH = torch.tensor([20.0, 30.0, 6.0, NAN, 50.0])
MEAN, STD = [25.0, 29.5, 99.0, 1.0, 55.5], [2.0, 3.0, 5.0, 1.0, 4.0]
DISTRIBUTION = GaussianAge(torch.tensor(MEAN), torch.tensor(STD))


def measured(metric, distribution=DISTRIBUTION, low=LOW, high=HIGH):
    metric.update(distribution, low, high)
    return metric.compute().item()


def test_nll_is_the_density_of_exact_ages():
    expected = -norm.logpdf([20, 30, 50], [25, 29.5, 55.5], [2, 3, 4]).mean()
    assert measured(AgeNLL()) == pytest.approx(expected)


def test_interval_nll_is_the_mass_of_groups_and_stays_finite_in_the_tail():
    expected = -(
        norm.logcdf(6.5, 99, 5) + np.log1p(-np.exp(norm.logcdf(3.5, 99, 5) - norm.logcdf(6.5, 99, 5)))
    )
    assert measured(AgeIntervalNLL()) == pytest.approx(expected)
    far = GaussianAge(torch.tensor([1e4]), torch.tensor([1.0]))
    assert 4e7 < measured(AgeIntervalNLL(), far, torch.tensor([4.0]), torch.tensor([6.0])) < 6e7


def test_crps_of_exact_ages_is_the_squared_distance_of_distribution_functions():
    def score(age, mean, std):
        below = quad(lambda x: norm.cdf(x, mean, std) ** 2, mean - 12 * std, age)[0]
        return below + quad(lambda x: norm.sf(x, mean, std) ** 2, age, mean + 12 * std)[0]

    expected = np.mean([score(20, 25, 2), score(30, 29.5, 3), score(50, 55.5, 4)])
    assert measured(AgeCRPS()) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_coverage_and_width_are_those_of_the_central_interval(level):
    """Ages 20, 30 and 50 lie 2.5, 0.17 and 1.375 std from the mean; the group lies far outside."""
    z = norm.ppf((1 + level) / 2)
    covered = sum(distance <= z for distance in (2.5, 0.5 / 3, 1.375))
    assert measured(IntervalCoverage(level)) == pytest.approx(covered / 4)
    assert measured(IntervalWidth(level)) == pytest.approx(2 * z * (2 + 3 + 5 + 4) / 4)


@pytest.mark.parametrize(
    ("mean", "covered"),
    [(28.5, 1), (27.0, 0), (30.0, 0), (26.0, 0)],  # 90 % of N(mean, 2.2) is mean -+ 3.62
)
def test_a_group_is_covered_when_the_interval_holds_it_whole(mean, covered):
    face = GaussianAge(torch.tensor([mean]), torch.tensor([2.2]))
    assert measured(IntervalCoverage(0.9), face, torch.tensor([25.0]), torch.tensor([32.0])) == covered


@pytest.mark.parametrize("level", [0, 1, 90, NAN])
@pytest.mark.parametrize("metric", [IntervalCoverage, IntervalWidth])
def test_levels_are_fractions(metric, level):
    with pytest.raises(ValueError, match="level"):
        metric(level)
