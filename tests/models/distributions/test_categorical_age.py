import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mtmsa_lightning.calibration.fitting import fit_sigma_scale
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import CategoricalAge, GaussianAge

FIRST = 16
LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=40)


def of_logits(*logits, min_age: int = FIRST) -> CategoricalAge:
    return CategoricalAge(torch.tensor([logits], dtype=torch.float64).log_softmax(-1), min_age)


def normal_shape(mean: float = 40.0, std: float = 6.0) -> CategoricalAge:
    """The masses of a normal distribution in the years 0 to 116."""
    edges = np.arange(-0.5, 117)
    return CategoricalAge(torch.from_numpy(np.log(np.diff(norm.cdf(edges, mean, std)).clip(1e-300)))[None])


@pytest.fixture
def age() -> CategoricalAge:
    """Three faces over the years 16 to 20: uneven, certain, and on two ends."""
    pmf = torch.tensor([[0.1, 0.2, 0.4, 0.05, 0.25], [0, 0, 0, 1, 0], [0.5, 0, 0, 0, 0.5]])
    return CategoricalAge(pmf.double().log(), FIRST)


def fine_grid(age: CategoricalAge) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints of thousandths of a year from 10 to 30, and the cumulative distribution there, by loops."""
    x = np.arange(10, 30, 0.001) + 0.0005
    cumulative = np.zeros((len(age.pmf), len(x)))
    for row, pmf in enumerate(age.pmf.numpy()):
        for year, mass in enumerate(pmf, start=FIRST):
            cumulative[row] += mass * np.clip(x - (year - 0.5), 0, 1)
    return x, cumulative


def test_moments_are_those_of_the_density(age):
    x, cumulative = fine_grid(age)
    mass = np.diff(cumulative, prepend=0)
    mean = mass @ x
    np.testing.assert_allclose(age.mean, mean, atol=1e-3)
    np.testing.assert_allclose(age.std, np.sqrt((mass * (x - mean[:, None]) ** 2).sum(1)), atol=1e-3)
    np.testing.assert_allclose(age.mean, [18.15, 19, 18])
    np.testing.assert_allclose(age.std[1], math.sqrt(1 / 12))


def test_intervals_take_their_share_of_each_year(age):
    np.testing.assert_allclose(age.interval_prob(15.5, 17.5), [0.3, 0, 0.5])
    np.testing.assert_allclose(age.interval_prob(17.0, 18.75), [0.1 + 0.4 + 0.0125, 0.25, 0], atol=1e-15)
    np.testing.assert_allclose(age.interval_prob(-math.inf, math.inf), 1)
    np.testing.assert_allclose(age.interval_prob(-math.inf, 15.5), 0)
    high = torch.tensor([16.5, 19.0, 30.0])
    np.testing.assert_allclose(age.interval_prob(10.0, high), [0.1, 0.5, 1])
    np.testing.assert_allclose(age.log_interval_prob(10.0, high).exp(), [0.1, 0.5, 1])
    assert age.interval_prob(torch.tensor([[10.0], [17.0]]), 18.0).shape == (2, 3), "bounds broadcast"


def test_the_density_of_a_year_is_its_mass_and_its_upper_edge_belongs_to_it(age):
    for x, expected in [(16.0, 0.1), (17.5, 0.2), (17.51, 0.4), (20.5, 0.25), (15.51, 0.1)]:
        assert age.log_prob(x)[0].exp().item() == pytest.approx(expected)
    assert torch.equal(age.log_prob(15.5), torch.full((3,), -math.inf).double())
    assert torch.equal(age.log_prob(20.6), torch.full((3,), -math.inf).double())
    np.testing.assert_allclose(age.log_prob(torch.tensor([18.0, 19.0, 20.0])).exp(), [0.4, 1, 0.5])


def test_quantiles_are_worked_by_hand(age):
    np.testing.assert_allclose(age.quantile(0.5), [18.0, 19.0, 16.5])
    np.testing.assert_allclose(age.quantile(0.05), [16.0, 18.55, 15.6])
    np.testing.assert_allclose(age.quantile(0.875), [20.0, 19.375, 20.25])


@pytest.mark.parametrize("label", [12.0, 16.0, 17.3, 18.5, 20.0, 25.0])
def test_crps_is_the_integral(age, label):
    x, cumulative = fine_grid(age)
    expected = ((cumulative - (x >= label)) ** 2).sum(1) * 0.001
    np.testing.assert_allclose(age.crps(label), expected, atol=1e-6)


def test_a_normal_shape_behaves_like_the_normal_distribution():
    age, normal = normal_shape(), GaussianAge(torch.tensor([40.0]), torch.tensor([6.0]))
    assert age.mean.item() == pytest.approx(40)
    assert age.std.item() == pytest.approx(6, abs=0.02)
    for label in (25.0, 38.0, 40.0):
        assert age.crps(label).item() == pytest.approx(normal.crps(label).item(), abs=0.01)
        assert age.log_prob(label).item() == pytest.approx(normal.log_prob(label).item(), abs=0.02)
    np.testing.assert_allclose(
        age.group_probs(AGE_GROUP_EDGES), normal.group_probs(AGE_GROUP_EDGES), atol=2e-3
    )


@given(LOGITS)
def test_probabilities_sum_to_one_and_rise(logits):
    age = of_logits(*logits)
    assert age.pmf.sum().item() == pytest.approx(1)
    assert (age.pmf >= 0).all()
    assert age.group_probs(AGE_GROUP_EDGES).sum().item() == pytest.approx(1)
    bounds = torch.linspace(10, 60, 101).double()[:, None]
    assert (age.interval_prob(-math.inf, bounds).diff(dim=0) >= -1e-15).all()


@given(LOGITS, st.floats(0.001, 0.999))
def test_the_quantile_inverts_the_cumulative_distribution(logits, p):
    age = of_logits(*logits)
    quantile = age.quantile(p).item()
    assert FIRST - 0.5 <= quantile <= FIRST + len(logits) - 0.5
    assert age.interval_prob(-math.inf, quantile).item() == pytest.approx(p, abs=1e-9)


@given(LOGITS)
def test_scale_one_changes_nothing(logits):
    age = of_logits(*logits)
    torch.testing.assert_close(age.scaled(1.0).log_pmf, age.log_pmf, rtol=1e-12, atol=1e-12)


@settings(max_examples=50)
@given(LOGITS, st.floats(0.3, 5.0), st.floats(0.3, 5.0))
def test_a_larger_scale_holds_the_mean_and_spreads_the_mass(logits, one, other):
    age = of_logits(*logits)
    narrow, wide = age.scaled(min(one, other)), age.scaled(max(one, other))
    for scaled in (narrow, wide):
        assert scaled.pmf.sum().item() == pytest.approx(1)
        assert scaled.mean.item() == pytest.approx(age.mean.item(), abs=1e-6)
    entropies = [-torch.xlogy(scaled.pmf, scaled.pmf).sum() for scaled in (narrow, wide)]
    assert entropies[1] >= entropies[0] - 1e-6


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.5, 2.0])
def test_a_normal_shape_gets_the_scale_in_its_deviation(scale):
    assert normal_shape().scaled(scale).std.item() == pytest.approx(6 * scale, rel=0.01)


def test_calibration_finds_the_scale_of_a_sharp_prediction():
    means = 30 + 30 * torch.rand(400, generator=torch.Generator().manual_seed(0)).double()
    errors = torch.randn(400, generator=torch.Generator().manual_seed(1)).double()
    ages = (means + 6 * errors / errors.square().mean().sqrt()).round()
    years = torch.arange(117).double()
    age = CategoricalAge((-((years - means[:, None]) ** 2) / (2 * 4**2)).log_softmax(-1))
    scale = fit_sigma_scale(age, ages, ages)
    assert scale == pytest.approx(6 / 4, rel=0.02)
    torch.testing.assert_close(age.scaled(scale).mean, age.mean)


def test_a_skewed_shape_keeps_its_mean_where_the_power_alone_would_move_it(age):
    wide = age.scaled(2.0)
    torch.testing.assert_close(wide.mean, age.mean)
    assert (wide.std >= age.std - 1e-12).all()
    power = (age.log_pmf[:1] / 4).softmax(-1)
    assert abs((power * age.years).sum() - age.mean[0]) > 0.05
    assert torch.equal(wide.pmf[1], age.pmf[1]), "a certain year stays certain"


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_is_positive_and_finite(age, scale):
    with pytest.raises(ValueError, match="scale"):
        age.scaled(scale)


@pytest.mark.parametrize("p", [0.0, 1.0, math.nan])
def test_a_quantile_needs_a_probability(age, p):
    with pytest.raises(ValueError, match="quantile"):
        age.quantile(p)


def test_gradients_are_those_of_finite_differences():
    def metrics(logits):
        age = CategoricalAge(logits.log_softmax(-1), FIRST)
        return age.mean, age.std, age.log_interval_prob(16.2, 19.0), age.log_prob(18.0), age.crps(17.3)

    logits = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(metrics, (logits,))
    CategoricalAge(logits.log_softmax(-1)).group_probs(AGE_GROUP_EDGES).square().sum().backward()
    assert logits.grad.isfinite().all()
