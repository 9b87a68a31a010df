import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtmsa_lightning.evaluation.simultaneous import Family, factor, largest_difference, simultaneous


def samples(values, errors, draws=4000, seed=0):
    """Bootstrap samples of independent normal estimates."""
    return values + errors * np.random.default_rng(seed).normal(size=(draws, len(values)))


def of(values, drawn):
    return Family(values, drawn, np.zeros(len(values)))


def test_the_factor_is_that_of_independent_normal_differences():
    values, errors = np.zeros(6), np.full(6, 2.0)
    found = simultaneous(values, samples(values, errors, 40_000))
    sidak = stats.norm.ppf((1 + 0.95 ** (1 / 6)) / 2)
    assert found.high / 2 == pytest.approx(np.full(6, sidak), rel=0.02)
    one = simultaneous(values[:1], samples(values[:1], errors[:1], 40_000))
    assert one.high[0] / 2 == pytest.approx(stats.norm.ppf(0.975), rel=0.02)


def test_p_values_are_corrected_and_agree_with_the_intervals():
    values, errors = np.array([0.0, 1.0, 2.6, 4.0]), np.ones(4)
    found = simultaneous(values, samples(values, errors, 20_000))
    sidak = 1 - (1 - 2 * stats.norm.sf(values)) ** 4
    assert found.p == pytest.approx(sidak, abs=0.015)
    assert ((found.p < 0.05) == ((found.low > 0) | (found.high < 0))).all()


def test_a_least_error_keeps_equal_scores_from_being_certain():
    values = np.array([0.1, 0.1, 0.0])
    drawn = np.repeat(values[None], 100, axis=0)
    found = simultaneous(values, drawn, np.array([0.2, 0.01, 0.2]))
    assert found.low[0] < 0 < found.low[1]
    assert np.isnan(simultaneous(values, drawn).p[2])


def brute_force(values, drawn, level):
    """All ordered pairs, one by one."""
    pairs = list(itertools.permutations(range(len(values)), 2))
    differences = np.array([values[i] - values[j] for i, j in pairs])
    moved = np.array([drawn[:, i] - drawn[:, j] for i, j in pairs]).T - differences
    error = moved.std(axis=0)
    largest = np.sort((abs(moved) / error).max(1))
    rank = int(np.ceil(level * (len(drawn) + 1)))
    half = max(stats.norm.ppf((1 + level) / 2), largest[rank - 1]) * error
    return max(0, (differences - half).max()), (differences + half).max()


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.integers(0, 99))
@settings(max_examples=20)
def test_the_largest_difference_is_that_of_all_pairs_one_by_one(values, seed):
    values = np.array(values)
    random = np.random.default_rng(seed)
    drawn = samples(values, random.uniform(0.5, 2, len(values)), 200, seed)
    found = largest_difference([of(values, drawn)])
    assert found.value == pytest.approx(values.max() - values.min())
    assert (found.low, found.high) == pytest.approx(brute_force(values, drawn, 0.95))
    order = random.permutation(len(values))
    permuted = largest_difference([of(values[order], drawn[:, order])])
    assert (permuted.low, permuted.high) == pytest.approx((found.low, found.high))
    assert order[permuted.highest] == found.highest or values[found.highest] == values.max()


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_the_interval_contains_the_largest_true_difference(spread):
    """150 samples of 8 groups; a plain interval of the largest observed difference often fails."""
    random = np.random.default_rng(1)
    true, errors = np.linspace(0, spread, 8), random.uniform(0.5, 1.5, 8)
    covered, above = 0, 0
    for number in range(150):
        values = true + errors * random.normal(size=8)
        found = largest_difference([of(values, samples(values, errors, 200, number))])
        covered += found.low <= spread <= found.high
        above += found.low > spread
    assert covered >= 135
    assert above <= 14


def test_samples_without_a_group_are_skipped():
    values = np.array([0.0, 3.0])
    drawn = samples(values, np.ones(2))
    drawn[::7, 1] = np.nan
    found = largest_difference([of(values, drawn)])
    assert found.low == pytest.approx(3 - 1.96 * 2**0.5, abs=0.15)
    assert factor(np.array([np.inf, np.nan]), 0.95) == pytest.approx(1.96, abs=0.001)


def test_families_are_compared_within_and_corrected_together():
    low, high = np.array([0.0, 1.0]), np.array([10.0, 12.0])
    drawn = [samples(values, np.ones(2), seed=seed) for seed, values in enumerate((low, high))]
    both = largest_difference([of(low, drawn[0]), of(high, drawn[1])])
    assert (both.family, both.highest, both.lowest, both.value) == (1, 1, 0, 2.0)
    alone = largest_difference([of(high, drawn[1])])
    assert both.low <= alone.low
    assert both.high > alone.high
