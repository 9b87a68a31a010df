"""Decisions at legal ages: what they compare, how their thresholds are fitted, and their rates."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.measures import LabelledPredictions
from mtmsa_lightning.calibration.policy import DECISIONS, AgePolicy
from mtmsa_lightning.calibration.policy_fitting import fit_policy, policy_rates, thresholds
from mtmsa_lightning.calibration.risk_control import upper_bound
from mtmsa_lightning.models.distributions import CategoricalAge, GaussianAge


def faces(n=3000, seed=0, per_subject=1, spread=3.0) -> LabelledPredictions:
    """Exact labels from 5 to 40 years, estimates with normal errors."""
    random = np.random.default_rng(seed)
    label = torch.from_numpy(random.integers(5, 41, n).astype(float))
    mean = label + torch.from_numpy(random.normal(0, spread, n))
    age = GaussianAge(mean, torch.full((n,), spread))
    return LabelledPredictions(age, label, label, {}, torch.arange(n) // per_subject)


def test_decisions_compare_completed_years():
    """The label 17 means [17, 18): P(age >= 18) is the probability above 17.5."""
    age = GaussianAge(torch.tensor([17.0, 17.5, 18.0, 30.0]), torch.ones(4))
    policy = AgePolicy(18, by="probability", no_below=0.5, yes_from=0.9)
    wanted = norm.sf((17.5 - age.mean.numpy()) / 1)
    np.testing.assert_allclose(policy.score(age), wanted, rtol=1e-9)
    assert [DECISIONS[code] for code in policy.decide(age)] == ["no", "unsure", "unsure", "yes"]
    years = CategoricalAge(torch.tensor([[0.2, 0.3, 0.5]]).log(), 16)
    assert float(policy.score(years)) == pytest.approx(0.5)  # of the year 18 alone
    estimate = AgePolicy(18, no_below=17.5, yes_from=18.0)
    assert [DECISIONS[code] for code in estimate.decide(age)] == ["no", "unsure", "yes", "yes"]
    assert AgePolicy(18).decide(age).tolist() == [1, 1, 1, 1]  # without thresholds, every face is unsure


@pytest.mark.parametrize("rule", ["estimate", "probability"])
def test_thresholds_are_those_of_brute_force(rule):
    given = faces(spread=2.0)
    policy = fit_policy(AgePolicy(18, max_fpr=0.05, by=rule), given)
    score, label = policy.score(given.age).numpy(), given.low.numpy()
    minors, adults = score[(label >= 13) & (label <= 17)], score[(label >= 18) & (label <= 22)]

    def kept(errors, group):
        return upper_bound(errors / len(group), len(group), 0.95) <= 0.05

    tried = thresholds(policy)
    assert policy.yes_from == min(each for each in tried if kept((minors >= each).sum(), minors))
    mirror = 36 if rule == "estimate" else 1
    lower = [round(mirror - each, 4) for each in tried]
    assert policy.no_below == max(each for each in lower if kept((adults <= each).sum(), adults))
    assert policy.no_below <= (18 if rule == "estimate" else 0.5) <= policy.yes_from


def test_a_threshold_that_keeps_no_rate_is_none():
    given = faces()
    noisy = given._replace(age=GaussianAge(torch.full_like(given.low, 70.0), torch.ones(len(given.low))))
    policy = fit_policy(AgePolicy(18, max_fpr=0.05), noisy)
    assert (policy.yes_from, policy.no_below) == (None, 18.0)
    assert policy.describe() == "18 or older: never yes, no below an estimate of 18 years, else unsure"


def test_rates_count_subjects_and_labels_inside_the_ages():
    """Two subjects: one minor with a wrong yes in one of two faces, one adult; a group label is left out."""
    low = torch.tensor([15.0, 16, 30, 12, float("nan")])
    high = torch.tensor([15.0, 16, 30, 20, float("nan")])
    age = GaussianAge(torch.tensor([14.0, 25, 28, 60, 60]), torch.ones(5))
    given = LabelledPredictions(age, low, high, {}, torch.tensor([0, 0, 1, 2, 3]))
    found = policy_rates(AgePolicy(18, yes_from=22.0, no_below=15.0), given)
    assert found["minors"] == {
        "faces": 2, "subjects": 1, "yes": 0.5, "no": 0.5, "upper": upper_bound(0.5, 1, 0.95, False),
    }  # fmt: skip
    assert found["adults"] == {"faces": 0, "subjects": 0, "yes": None, "no": None, "upper": 1.0}
    assert found["all_adults"] == {"faces": 1, "subjects": 1, "yes": 1.0, "no": 0.0, "upper": None}


@pytest.mark.parametrize("rule", ["estimate", "probability"])
def test_the_rate_of_new_faces_is_kept(rule):
    """The false positive rate of the population is that of 20,000 further faces."""
    population = faces(20_000, seed=1)
    exceeded = []
    for seed in range(20):
        policy = fit_policy(AgePolicy(18, max_fpr=0.05, confidence=0.8, by=rule), faces(900, seed=seed + 2))
        exceeded.append(policy_rates(policy, population)["minors"]["yes"] > 0.05)
    assert np.mean(exceeded) <= 0.2 + 3 * (0.2 * 0.8 / 20) ** 0.5


def test_a_record_keeps_its_policies_and_old_records_have_none():
    policy = fit_policy(AgePolicy(21, confidence=None, max_fpr=0.1), faces(800))
    fitted = Calibration(policies=(replace(policy, metrics={"test": policy_rates(policy, faces(300))}),))
    plain = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    assert Calibration.from_dict(plain) == fitted
    assert "21 or older: yes from an estimate of" in fitted.describe()
    del plain["policies"]
    assert Calibration.from_dict(plain) == Calibration()
