import math

import numpy as np
import pytest
import torch
from scipy import stats

from mtmsa_lightning.models.distributions import (
    CalibratedAge,
    CategoricalAge,
    GaussianAge,
    LaplaceAge,
    MixtureAge,
    distribution_columns,
    distribution_from_columns,
    printed_columns,
)
from mtmsa_lightning.models.ensemble import mean_output
from mtmsa_lightning.models.face_output import FaceOutput

MEANS = np.array([[20.0, 40.0, 1.0], [26.0, 41.0, 2.0], [35.0, 39.0, 90.0]])
STDS = np.array([[2.0, 5.0, 1.0], [3.0, 4.0, 2.0], [2.5, 6.0, 3.0]])
PARTS = [GaussianAge(torch.tensor(m), torch.tensor(s)) for m, s in zip(MEANS, STDS, strict=True)]
MIXTURE = MixtureAge(PARTS)
PMF = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(30), 3))


def cdf(x):
    return stats.norm.cdf(x, MEANS, STDS).mean(0)


def test_a_mixture_of_normal_distributions_agrees_with_scipy():
    np.testing.assert_allclose(MIXTURE.mean, MEANS.mean(0))
    within, between = (STDS**2).mean(0), MEANS.var(0)
    np.testing.assert_allclose(MIXTURE.std, np.sqrt(within + between))
    np.testing.assert_allclose(MIXTURE.std_within**2, within)
    np.testing.assert_allclose(MIXTURE.std_between**2, between)
    for age in (5.0, 30.0, 60.0):
        density = stats.norm.pdf(age, MEANS, STDS).mean(0)
        np.testing.assert_allclose(MIXTURE.log_prob(age).exp(), density, rtol=1e-9)
        np.testing.assert_allclose(MIXTURE.interval_prob(age, age + 7), cdf(age + 7) - cdf(age), atol=1e-12)
    np.testing.assert_allclose(MIXTURE.group_probs([25.0]).sum(1), 1)
    for p in (0.001, 0.05, 0.5, 0.9):
        np.testing.assert_allclose(cdf(MIXTURE.quantile(p).numpy()), p, atol=1e-8)


def test_std_and_crps_are_those_of_draws():
    random = np.random.default_rng(0)
    part = random.integers(3, size=40_000)
    draws = random.normal(MEANS[part], STDS[part])
    np.testing.assert_allclose(MIXTURE.std, draws.std(0), rtol=0.02)
    for age in (22.0, 50.0):
        crps = np.abs(draws - age).mean(0) - np.abs(draws[::2] - draws[1::2]).mean(0) / 2
        np.testing.assert_allclose(MIXTURE.crps(age), crps, rtol=0.03, atol=0.05)


def test_a_scaled_mixture_is_stretched_about_its_mean():
    wide = MIXTURE.scaled(2.0).scaled(0.75)
    np.testing.assert_allclose(wide.mean, MIXTURE.mean)
    np.testing.assert_allclose(wide.std, 1.5 * MIXTURE.std)
    stretch = lambda age: MIXTURE.mean + 1.5 * (age - MIXTURE.mean)  # noqa: E731
    np.testing.assert_allclose(wide.quantile(0.2), stretch(MIXTURE.quantile(0.2)))
    ends = torch.tensor([10.0, 20.0, 30.0]).double(), torch.tensor([30.0, 45.0, 31.0]).double()
    np.testing.assert_allclose(wide.interval_prob(*map(stretch, ends)), MIXTURE.interval_prob(*ends))
    np.testing.assert_allclose(
        wide.log_prob(stretch(ends[0])), MIXTURE.log_prob(ends[0]) - math.log(1.5), rtol=1e-9
    )


def test_far_tails_and_labels_outside_of_some_parts_stay_finite():
    assert MIXTURE.log_interval_prob(300.0, 301.0).isfinite().all()
    mixed = MixtureAge([CategoricalAge(PMF.log(), 10), CategoricalAge(PMF.log(), 20)])
    ages = torch.tensor([5.0, 45.0, math.nan]).double()
    nearest = mixed.nearest(ages)
    assert nearest[:2].tolist() == [10, 45]
    assert nearest[2].isnan()
    assert mixed.log_prob(nearest)[:2].isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1.25])
def test_a_mixture_is_read_back_from_its_columns(scale):
    parts = [*PARTS, LaplaceAge(torch.tensor(MEANS[0]), torch.tensor(STDS[0])), CategoricalAge(PMF.log(), 15)]
    mixture = MixtureAge(parts, scale)
    columns = printed_columns(mixture.columns() | {"age_low90": mixture.quantile(0.05)})
    assert distribution_columns(columns) == list(columns)
    assert {"age_std_within", "age_std_between", "age1_mean", "age5_p_15"} <= columns.keys()
    del columns["age_low90"], columns["age_low90_unclipped"]
    again = distribution_from_columns(columns)
    for age in (18.0, 33.3):
        torch.testing.assert_close(again.log_prob(age), mixture.log_prob(age))
    torch.testing.assert_close(again.quantile(0.9), mixture.quantile(0.9))
    torch.testing.assert_close(again[1:].mean, mixture.mean[1:])


def test_outputs_are_mixed_with_mean_probabilities_and_without_intervals():
    logits = torch.tensor([[[1.0, 2.0]] * 3, [[-3.0, 0.5]] * 3])
    intervals = CalibratedAge(PARTS[1], {0.9: (PARTS[1].mean, PARTS[1].mean)})
    mixed = mean_output([FaceOutput(PARTS[0], logits[0], None), FaceOutput(intervals, logits[1], logits[0])])
    torch.testing.assert_close(mixed.age.quantile(0.1), MixtureAge(PARTS[:2]).quantile(0.1))
    torch.testing.assert_close(mixed.gender.softmax(1), logits.double().softmax(2).mean(0))
    assert mixed.race is None
    same = mean_output([FaceOutput(PARTS[0], logits[0], None)] * 3)
    torch.testing.assert_close(same.age.std, PARTS[0].std)
    assert same.age.std_between.abs().max() < 1e-6
    assert mean_output([FaceOutput(PARTS[0], None, None), FaceOutput(None, None, None)]).age is None
