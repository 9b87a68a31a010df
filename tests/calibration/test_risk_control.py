"""Bounds against scipy's exact intervals, and the promise of a threshold by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from mtmsa_lightning.calibration.risk_control import (
    fewest_units,
    hoeffding_bentkus,
    loosest_threshold,
    smallest_rate,
    upper_bound,
)

TRIED = [step / 20 for step in range(80, -41, -1)]


@pytest.mark.parametrize(("errors", "units"), [(0, 1), (0, 299), (3, 40), (39, 40), (40, 40)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_bound_of_errors_is_clopper_and_pearsons(errors, units, confidence):
    exact = binomtest(errors, units, alternative="less").proportion_ci(confidence, method="exact")
    assert upper_bound(errors / units, units, confidence) == pytest.approx(exact.high, abs=1e-12)


def test_too_few_faces_follow_the_rule_of_three():
    assert fewest_units(0.01, 0.95) == 299
    assert upper_bound(0, 299, 0.95) <= 0.01 < upper_bound(0, 298, 0.95)
    assert upper_bound(0, 299, 0.95, binary=False) <= 0.01 < upper_bound(0, 298, 0.95, binary=False)
    assert fewest_units(0.01, None) == 99
    assert upper_bound(0, 99, None) <= 0.01 < upper_bound(0, 98, None)
    assert smallest_rate(60, 0.95) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert smallest_rate(0, 0.95) == 1


@given(st.integers(1, 400), st.integers(0, 400), st.floats(0.5, 0.999))
def test_bounds_grow_with_the_errors_and_the_confidence(units, errors, confidence):
    risk = min(errors, units) / units
    for binary in (True, False):
        bound = upper_bound(risk, units, confidence, binary)
        assert risk <= bound <= 1
        assert upper_bound(max(0, risk - 1 / units), units, confidence, binary) <= bound + 1e-9
        assert bound <= upper_bound(risk, units, (1 + confidence) / 2, binary) + 1e-9
    assert upper_bound(risk, units, confidence, False) >= upper_bound(risk, units, confidence) - 1e-9


def test_the_p_value_of_fractions_is_that_of_its_formula():
    """30 units with mean 0.1 against 0.2: relative entropy 0.0444 nats, P(Bin(30, 0.2) <= 3) = 0.1227."""
    entropy = 0.1 * np.log(0.1 / 0.2) + 0.9 * np.log(0.9 / 0.8)
    assert hoeffding_bentkus(0.1, 30, 0.2) == pytest.approx(np.exp(-30 * entropy))
    exact = binomtest(3, 30, 0.2, alternative="less").pvalue
    assert hoeffding_bentkus(0.1, 30, 0.2) <= np.e * exact


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(-2, 4), st.integers(0, 30)), min_size=1, max_size=80))
def test_the_loosest_threshold_is_that_of_brute_force(faces):
    scores, units = np.array(faces).T
    found = loosest_threshold(scores, units, TRIED, 0.2, 0.8)
    passed = None
    for threshold in TRIED:
        losses = [np.mean(scores[units == unit] >= threshold) for unit in set(units)]
        binary = all(np.sum(units == unit) == 1 for unit in set(units))
        if upper_bound(float(np.mean(losses)), len(losses), 0.8, binary) > 0.2:
            break
        passed = threshold
    assert found == passed
    looser = loosest_threshold(scores, units, TRIED, 0.4, 0.8)
    assert found is None or looser <= found


def test_no_threshold_without_faces_or_with_too_few():
    assert loosest_threshold([], [], TRIED, 0.1, 0.95) is None
    assert loosest_threshold(np.full(28, -9.0), np.arange(28), TRIED, 0.1, 0.95) is None
    assert loosest_threshold(np.full(29, -9.0), np.arange(29), TRIED, 0.1, 0.95) == TRIED[-1]


@pytest.mark.parametrize(("confidence", "per_subject"), [(0.9, 1), (0.9, 3), (None, 1), (None, 3)])
def test_a_threshold_keeps_its_rate_in_1000_draws(confidence, per_subject):
    """Scores are normal with a part shared by a subject's faces: the true rate of a threshold is known.

    With a confidence of 90 % at most 100 of 1,000 thresholds may exceed the rate, within three standard
    deviations; a threshold on average may exceed it in half of the draws, but not in the mean.
    """
    random, rate, subjects = np.random.default_rng(5), 0.1, 120
    units = np.repeat(np.arange(subjects), per_subject)
    true = []
    for _ in range(1000):
        scores = 0.8 * random.normal(size=subjects)[units] + 0.6 * random.normal(size=len(units))
        found = loosest_threshold(scores, units, TRIED, rate, confidence)
        true.append(0.0 if found is None else norm.sf(found))
    exceeded = np.mean(np.array(true) > rate)
    if confidence is None:
        assert rate - 0.02 < np.mean(true) <= rate + 3 * np.std(true) / 1000**0.5
    else:
        assert exceeded <= 0.1 + 3 * (0.1 * 0.9 / 1000) ** 0.5
        assert np.mean(true) > rate / 3  # and it is of use
