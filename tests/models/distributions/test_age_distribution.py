import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import AgeDistribution, GaussianAge, distribution_from_columns

MEANS, STDS = torch.tensor([20.0, 33.3, 90.0]), torch.tensor([2.0, 7.5, 0.3])
REFERENCE = norm(MEANS.double().numpy(), STDS.double().numpy())


@pytest.fixture
def gaussian():
    return GaussianAge(MEANS, STDS)


def test_gaussian_agrees_with_scipy(gaussian):
    np.testing.assert_allclose(gaussian.mean, REFERENCE.mean())
    np.testing.assert_allclose(gaussian.std, REFERENCE.std())
    np.testing.assert_allclose(gaussian.log_prob(25.0), REFERENCE.logpdf(25.0), rtol=1e-12)
    np.testing.assert_allclose(
        gaussian.interval_prob(15.0, 35.0), REFERENCE.cdf(35) - REFERENCE.cdf(15), rtol=1e-9, atol=1e-300
    )
    for p in (1e-6, 0.05, 0.5, 0.975):
        np.testing.assert_allclose(gaussian.quantile(p), REFERENCE.ppf(p), rtol=1e-9)


def test_bounds_may_be_tensors_of_any_float(gaussian):
    low, high = torch.tensor([10.0, 20.0, 89.5]), torch.tensor([20.0, 50.0, math.inf])
    expected = REFERENCE.cdf(high) - REFERENCE.cdf(low)
    np.testing.assert_allclose(gaussian.interval_prob(low, high), expected, rtol=1e-9)


def test_far_tails_keep_their_relative_accuracy():
    gaussian = GaussianAge(torch.tensor([0.0]), torch.tensor([1.0]))
    for low in (5.0, 20.0, 37.0):
        expected = norm.sf(low) - norm.sf(low + 1)
        assert gaussian.interval_prob(low, low + 1).item() == pytest.approx(expected, rel=1e-12)
        assert gaussian.interval_prob(-low - 1, -low).item() == pytest.approx(expected, rel=1e-12)
    assert gaussian.log_interval_prob(1e3, math.inf).item() == pytest.approx(norm.logsf(1e3))


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_group_probabilities_sum_to_one(mean, std):
    probs = GaussianAge(torch.tensor([mean]), torch.tensor([std])).group_probs(AGE_GROUP_EDGES)
    assert probs.shape == (1, 8)
    assert (probs >= 0).all()
    assert probs.sum().item() == pytest.approx(1, abs=1e-12)


def test_groups_are_the_cells_between_edges(gaussian):
    bounds = np.array([-np.inf, 25.0, 60.0, np.inf])
    expected = np.diff(REFERENCE.cdf(bounds[:, None]), axis=0).T
    np.testing.assert_allclose(gaussian.group_probs([25.0, 60.0]), expected, atol=1e-12)


def test_gradients_are_finite_through_open_cells():
    mean, std = MEANS.clone().requires_grad_(), STDS.clone().requires_grad_()
    (GaussianAge(mean, std).group_probs(AGE_GROUP_EDGES) ** 2).sum().backward()
    assert mean.grad.isfinite().all()
    assert std.grad.isfinite().all()


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_quantile_needs_a_probability(gaussian, p):
    with pytest.raises(ValueError, match="quantile"):
        gaussian.quantile(p)


def test_the_central_interval_leaves_equal_tails(gaussian):
    np.testing.assert_allclose(torch.stack(gaussian.interval(0.8)), REFERENCE.interval(0.8), rtol=1e-9)


def test_crps_in_closed_form_is_the_integral():
    random = np.random.default_rng(0)
    mean, std, age = (
        torch.tensor(random.uniform(*ends, 300)) for ends in ((-50, 150), (0.1, 50), (-50, 150))
    )
    gaussian = GaussianAge(mean, std)
    torch.testing.assert_close(gaussian.crps(age), AgeDistribution.crps(gaussian, age), rtol=1e-7, atol=1e-7)


def test_crps_of_a_sure_prediction_is_the_absolute_error():
    sure = GaussianAge(torch.tensor([30.0, 30.0]), torch.tensor([1e-9, 1e-9]))
    torch.testing.assert_close(sure.crps(torch.tensor([25.0, 30.0])), torch.tensor([5.0, 0.0]).double())


def test_widening_scales_the_spread_about_the_mean(gaussian):
    wide = gaussian.scaled(1.5)
    np.testing.assert_allclose(wide.mean, gaussian.mean)
    np.testing.assert_allclose(wide.std, 1.5 * gaussian.std)
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="scale"):
            gaussian.scaled(scale)


def test_a_distribution_is_read_back_from_its_columns(gaussian):
    assert list(gaussian.columns()) == ["age_mean", "age_std"]
    again = distribution_from_columns({"id": torch.zeros(3), **gaussian.columns()})
    torch.testing.assert_close(again.mean, gaussian.mean, rtol=0, atol=0)
    torch.testing.assert_close(again.std, gaussian.std, rtol=0, atol=0)
    with pytest.raises(ValueError, match="no column age_std"):
        distribution_from_columns({"age_mean": torch.zeros(3)})
    with pytest.raises(ValueError, match="age_std must be positive"):
        distribution_from_columns({"age_mean": torch.zeros(3), "age_std": torch.tensor([1.0, 0.0, 1.0])})


class Uniform(AgeDistribution):
    """Ages from 0 to 100, to test what the base class adds."""

    mean = std = torch.tensor([50.0])

    def interval_prob(self, low, high):
        share = lambda age: (torch.as_tensor(age).clamp(0, 100) / 100).expand(1)  # noqa: E731
        return share(high) - share(low)

    def log_prob(self, age):
        return torch.tensor([-math.log(100)])

    def quantile(self, p):
        return torch.tensor([100 * p])

    def scaled(self, scale):
        return self

    def columns(self):
        return {}

    def __getitem__(self, rows):
        return self


def test_a_new_distribution_gets_groups_logarithms_intervals_and_a_score():
    torch.testing.assert_close(Uniform().group_probs([10.0, 60.0]), torch.tensor([[0.1, 0.5, 0.4]]))
    torch.testing.assert_close(Uniform().log_interval_prob(0, 50), torch.tensor([0.5]).log())
    low, high = Uniform().interval(0.9)
    assert (low.item(), high.item()) == pytest.approx((5, 95))
    for age, expected in ((30.0, (0.3**3 + 0.7**3) / 3 * 100), (0.0, 100 / 3), (120.0, 100 / 3 + 20)):
        assert Uniform().crps(age).item() == pytest.approx(expected, rel=1e-5)
