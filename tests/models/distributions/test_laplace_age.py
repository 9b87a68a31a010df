import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import laplace

from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import LaplaceAge

MEANS, SCALES = torch.tensor([20.0, 33.3, 90.0]).double(), torch.tensor([2.0, 7.5, 0.3]).double()
REFERENCE = laplace(MEANS.numpy(), SCALES.numpy())


@pytest.fixture
def age() -> LaplaceAge:
    return LaplaceAge(MEANS, SCALES)


def test_agrees_with_scipy(age):
    np.testing.assert_allclose(age.mean, REFERENCE.mean())
    np.testing.assert_allclose(age.std, REFERENCE.std())
    for low, high in [(15.0, 35.0), (-math.inf, 20.0), (33.3, math.inf), (20.0, 89.9)]:
        expected = REFERENCE.cdf(high) - REFERENCE.cdf(low)
        np.testing.assert_allclose(age.interval_prob(low, high), expected, rtol=1e-9, atol=1e-15)
    for x in (0.0, 20.0, 33.3, 120.0):
        np.testing.assert_allclose(age.log_prob(x), REFERENCE.logpdf(x), rtol=1e-12)
    for p in (1e-6, 0.05, 0.5, 0.975):
        np.testing.assert_allclose(age.quantile(p), REFERENCE.ppf(p), rtol=1e-12)


def test_far_tails_keep_their_logarithm():
    age = LaplaceAge(torch.tensor([0.0]), torch.tensor([1.0]))
    assert age.log_interval_prob(1e4, math.inf).item() == pytest.approx(-1e4 - math.log(2))
    expected = -1e4 - math.log(2) + math.log(-math.expm1(-1))
    assert age.log_interval_prob(1e4, 1e4 + 1).item() == pytest.approx(expected)
    assert age.log_interval_prob(-1e4 - 1, -1e4).item() == pytest.approx(expected)


@pytest.mark.parametrize("label", [3.0, 20.0, 33.0, 91.0])
def test_crps_is_the_integral(age, label):
    for i, (mean, scale) in enumerate(zip(MEANS.tolist(), SCALES.tolist(), strict=True)):
        one = laplace(mean, scale)
        below, _ = quad(lambda x, one=one: one.cdf(x) ** 2, label - 200, label, points=[mean], limit=200)
        above, _ = quad(lambda x, one=one: one.sf(x) ** 2, label, label + 200, points=[mean], limit=200)
        assert age.crps(label)[i].item() == pytest.approx(below + above, rel=1e-6)


@given(st.floats(0, 100), st.floats(0.1, 30), st.floats(0.001, 0.999))
def test_the_quantile_inverts_the_cumulative_distribution(mean, scale, p):
    age = LaplaceAge(torch.tensor([mean]), torch.tensor([scale]))
    assert age.interval_prob(-math.inf, age.quantile(p)).item() == pytest.approx(p, abs=1e-9)
    assert age.group_probs(AGE_GROUP_EDGES).sum().item() == pytest.approx(1, abs=1e-12)


def test_widening_multiplies_the_deviation_about_the_mean(age):
    wide = age.scaled(1.7)
    torch.testing.assert_close(wide.std, 1.7 * age.std)
    assert torch.equal(wide.mean, age.mean)
    assert torch.equal(age.scaled(1.0).std, age.std)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_impossible_scales_and_probabilities_are_refused(age, wrong):
    with pytest.raises(ValueError, match="scale"):
        age.scaled(wrong)
    with pytest.raises(ValueError, match="quantile"):
        age.quantile(wrong)


def test_gradients_are_those_of_finite_differences_and_finite_through_open_cells():
    def metrics(mean, scale):
        age = LaplaceAge(mean, scale)
        inside, left, right = ((15.0, 30.0), (-5.0, 0.5), (95.0, 99.0))
        return *(age.log_interval_prob(*ends) for ends in (inside, left, right)), age.crps(40.0)

    mean, scale = (tensor.clone().requires_grad_() for tensor in (MEANS + 0.1, SCALES * 3))
    assert torch.autograd.gradcheck(metrics, (mean, scale))
    (LaplaceAge(mean, scale).group_probs(AGE_GROUP_EDGES) ** 2).sum().backward()
    assert mean.grad.isfinite().all()
    assert scale.grad.isfinite().all()
