import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtmsa_lightning.evaluation.proportions import fractions, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (20, 20), (7, 20), (99, 100), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_that_of_scipy(successes, trials, level):
    reference = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson(successes, trials, level) == pytest.approx(tuple(reference), abs=1e-12)


def test_no_trial_has_no_interval():
    assert np.isnan(wilson([0, 3], [0, 5])[0]).tolist() == [True, False]


scores = st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=1, max_size=40)


@given(scores)
@settings(max_examples=30)
def test_independent_faces_have_wilsons_interval(values):
    found = fractions(np.array(values)[:, None])
    known = np.array(values)[~np.isnan(values)]
    expected = wilson(known.sum(), len(known))
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, atol=1e-12)
    if len(known):
        assert found.value[0] == known.mean()
        assert found.low[0] <= found.value[0] <= found.high[0]
        assert found.error[0] > 0


@given(scores, st.integers(2, 4))
@settings(max_examples=30)
def test_repeated_faces_of_a_subject_count_once_or_less(values, times):
    once = fractions(np.array(values)[:, None])
    subjects = np.repeat(np.arange(len(values)), times)
    repeated = fractions(np.repeat(values, times)[:, None], subjects)
    np.testing.assert_allclose(repeated.value, once.value)
    alone = np.array(values)[~np.isnan(values)]
    if len(alone) and alone.min() == alone.max():
        np.testing.assert_allclose([repeated.low, repeated.high], [once.low, once.high])
    elif len(alone) > 1:
        # the design effect of n subjects with t equal faces is (n t - 1) / (n - 1)
        n = len(alone)
        effective = times * n / ((times * n - 1) / (n - 1))
        expected = wilson(alone.mean() * effective, effective)
        np.testing.assert_allclose([repeated.low[0], repeated.high[0]], expected)


def test_intervals_by_subject_cover_the_true_fraction():
    """200 tables of 60 subjects with 1 to 8 faces whose scores agree: 95 % intervals, true fraction 0.9."""
    random = np.random.default_rng(0)
    covered, ignoring = 0, 0
    for _ in range(200):
        subject = np.repeat(np.arange(60), random.integers(1, 9, 60))
        right = random.beta(4.5, 0.5, 60)[subject] > random.uniform(size=len(subject))
        found = fractions(right[:, None].astype(float), subject)
        covered += found.low[0] <= 0.9 <= found.high[0]
        low, high = wilson(right.sum(), len(right))
        ignoring += low <= 0.9 <= high
    assert covered >= 183
    assert ignoring < 176
