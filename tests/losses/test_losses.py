import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor, nn

from mtmsa_lightning.losses.classification import MaskedCrossEntropy
from mtmsa_lightning.losses.gaussian import GaussianKLLoss
from mtmsa_lightning.losses.special import log_normal_interval, soft_bound
from mtmsa_lightning.losses.weighting import TaskWeighting

NAN = math.nan
FINITE = st.floats(-1e6, 1e6)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def exact_log_mass(low: float, high: float) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
    """Return log[Phi(high) - Phi(low)] and its two derivatives, from 50 digits."""
    with mpmath.workdps(50):
        near, far = mpmath.mpf(low), mpmath.mpf(high)
        if near + far < 0:
            near, far = -far, -near
        mass = (mpmath.erfc(near / mpmath.sqrt(2)) - mpmath.erfc(far / mpmath.sqrt(2))) / 2
        return mpmath.log(mass), -mpmath.npdf(low) / mass, mpmath.npdf(high) / mass


# ------------------------------------------------------------------ soft_bound


@given(st.floats(-1e12, 1e12))
def test_soft_bound_is_bounded_and_monotonic(x):
    x = torch.tensor([x, x + 1 + abs(x) / 10], dtype=torch.float64)
    y = soft_bound(x, -10, 6)
    assert (y.abs() <= x.abs()).all()
    assert -10 <= y[0] < y[1] <= 6


def test_soft_bound_starts_as_the_identity_and_its_slope_decays_with_the_square():
    x = doubles(0.0, -1e-9, 1e-9, -1e3, 1e3)
    soft_bound(x, -10, 6).sum().backward()
    expected = torch.tensor([1, 1, 1, (1 + 1e3 / 10) ** -2, (1 + 1e3 / 6) ** -2], dtype=torch.float64)
    torch.testing.assert_close(x.grad, expected, rtol=1e-7, atol=0)
    assert torch.autograd.gradcheck(lambda x: soft_bound(x, -10, 6), doubles(-3.0, -0.1, 0.2, 40.0))


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 0), (1, -1)])
def test_soft_bound_needs_zero_inside(bounds):
    with pytest.raises(ValueError, match="low < 0 < high"):
        soft_bound(torch.zeros(1), *bounds)


# ------------------------------------------------------------------ log_normal_interval


@pytest.mark.parametrize("middle", [0.0, 1e-3, 0.3, 1.0, 5.0, 38.0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("sign", [1, -1])
def test_interval_has_the_value_and_gradient_of_fifty_digits(middle, sign):
    for width in (1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 3.0, 30.0, 1e4):
        low, high = sign * middle - width / 2, sign * middle + width / 2
        z = doubles(low, high)
        value = log_normal_interval(z[0], z[1])
        value.backward()
        expected, *slopes = exact_log_mass(low, high)
        scale = max(abs(slope) for slope in slopes)
        assert value.item() == pytest.approx(float(expected), rel=1e-11, abs=1e-11)
        for found, slope in zip(z.grad.tolist(), slopes, strict=True):
            assert found == pytest.approx(float(slope), rel=1e-9, abs=float(scale * mpmath.mpf("1e-9")))


def test_interval_agrees_with_scipy_over_a_batch():
    rng = np.random.default_rng(0)
    low = rng.normal(0, 2, 200)
    high = low + rng.exponential(2, 200) + 0.01
    expected = np.log(np.where(low > 0, norm.sf(low) - norm.sf(high), norm.cdf(high) - norm.cdf(low)))
    found = log_normal_interval(torch.from_numpy(low).float(), torch.from_numpy(high).float())
    assert found.dtype == torch.float64
    np.testing.assert_allclose(
        log_normal_interval(torch.from_numpy(low), torch.from_numpy(high)), expected, rtol=1e-9
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_interval_takes_open_ends():
    low, high = doubles(-math.inf, 0.0, -math.inf, 50.0), doubles(0.0, math.inf, math.inf, math.inf)
    found = log_normal_interval(low, high)
    found.sum().backward()
    np.testing.assert_allclose(found.detach(), [math.log(0.5), math.log(0.5), 0, norm.logsf(50)], rtol=1e-13)
    peak = 2 * norm.pdf(0)
    slope = -math.exp(norm.logpdf(50) - norm.logsf(50))
    np.testing.assert_allclose(low.grad, [0, -peak, 0, slope], rtol=1e-10)
    np.testing.assert_allclose(high.grad, [peak, 0, 0, 0], rtol=1e-12)


@given(FINITE, st.floats(1e-6, 1e6))
def test_interval_is_a_finite_log_probability_symmetric_in_sign(low, width):
    z = doubles(low, low + width)
    value = log_normal_interval(z[0], z[1])
    (gradient,) = torch.autograd.grad(value, z)
    mirrored = log_normal_interval(-z[1], -z[0])
    assert value.item() == pytest.approx(mirrored.item(), rel=1e-12)
    assert -math.inf < value <= 0
    assert gradient.isfinite().all()
    assert gradient[0] <= 0 <= gradient[1]


# ------------------------------------------------------------------ GaussianKLLoss


def test_exact_labels_give_the_density_up_to_its_constant():
    rng = np.random.default_rng(1)
    mean, a, age = rng.normal(size=50), rng.normal(size=50), rng.normal(size=50)
    loss = GaussianKLLoss().per_sample(*map(torch.from_numpy, (mean, a, age, age)))
    expected = -norm.logpdf(age, mean, np.exp(a / 2)) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-12)


def test_groups_give_the_mass_of_the_interval():
    mean, a = torch.tensor([0.3, -1.0]), torch.tensor([0.2, -0.4])
    low, high = torch.tensor([-1.0, 0.5]), torch.tensor([1.0, 2.0])
    loss = GaussianKLLoss().per_sample(mean, a, low, high, 0.1)
    sd = np.exp(a.double().numpy() / 2)
    mass = norm.cdf(high.double() + 0.1, mean, sd) - norm.cdf(low.double() - 0.1, mean, sd)
    np.testing.assert_allclose(loss, -np.log(mass), rtol=1e-7)


def test_robust_form_is_linear_far_away():
    mean, a = torch.tensor([0.5, 1.0, 3.0, -3.0]), torch.tensor([0.7] * 4)
    zero = torch.zeros(4)
    loss = GaussianKLLoss("robust").per_sample(mean, a, zero, zero)
    expected = [math.exp(-0.7) * d + 0.35 for d in (0.125, 0.5, 2.5, 2.5)]
    np.testing.assert_allclose(loss, expected, rtol=1e-7)


@pytest.mark.parametrize("distance", [0.0, 0.7, 30.0])
def test_narrow_groups_and_exact_ages_agree_up_to_the_width(distance):
    width, gradients, values = 1e-4, [], []
    for shift in (0.0, width / 2):
        parameters = doubles(distance, -0.3)
        low, high = torch.tensor([-shift]).double(), torch.tensor([shift]).double()
        loss, _ = GaussianKLLoss()(parameters[:1], parameters[1:], low, high, 0.0)
        gradients.append(torch.autograd.grad(loss, parameters)[0])
        values.append(loss.item())
    constant = 0.5 * math.log(2 * math.pi) - math.log(width)
    assert values[1] == pytest.approx(values[0] + constant, abs=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", ["exact", "robust"])
def test_gradients_of_both_kinds_are_those_of_finite_differences(form):
    low, high = torch.tensor([0.0, 2.0, -4.0, NAN]).double(), torch.tensor([0.0, 2.0, 1.0, NAN]).double()
    loss = GaussianKLLoss(form)
    assert torch.autograd.gradcheck(
        lambda mean, a: loss.per_sample(mean, a, low, high, 0.5),
        (doubles(0.3, -0.4, 5.0, 1.0), doubles(0.1, 0.5, -0.7, 2.0)),
    )


def test_group_gradient_is_right_ten_thousand_deviations_away():
    mean, a = doubles(0.0), doubles(0.0)
    bound = torch.tensor([1e4], dtype=torch.float64)
    GaussianKLLoss().per_sample(mean, a, bound, bound + 1, 0.5).backward(torch.ones(1))
    _, low_slope, high_slope = exact_log_mass(1e4 - 0.5, 1e4 + 1.5)
    assert mean.grad.item() == pytest.approx(float(low_slope + high_slope), rel=1e-10)
    towards_sigma = (low_slope * (1e4 - 0.5) + high_slope * (1e4 + 1.5)) / 2
    assert a.grad.item() == pytest.approx(float(towards_sigma), rel=1e-10)


@pytest.mark.parametrize("form", ["exact", "robust"])
def test_missing_labels_count_nothing_and_pass_no_gradient(form):
    mean, a = doubles(0.5, 1e3, math.inf, 2.5), doubles(0.1, 5.0, 0.0, 0.3)
    low, high = torch.tensor([0.0, NAN, NAN, 1.0]), torch.tensor([0.0, NAN, 4.0, 3.0])
    total, count = GaussianKLLoss(form)(mean, a, low, high)
    total.backward()
    kept = torch.tensor([0, 3])
    alone, _ = GaussianKLLoss(form)(mean[kept], a[kept], low[kept], high[kept])
    assert count.dtype == torch.int64
    assert count == 2
    assert total.dtype == torch.float64
    torch.testing.assert_close(total, alone)
    for parameter in (mean, a):
        assert (parameter.grad != 0).tolist() == [True, False, False, True]
        assert parameter.grad.isfinite().all()


def test_a_batch_without_labels_is_an_exact_zero_on_the_graph():
    mean, a, missing = doubles(0.5, 1e3), doubles(0.1, 5.0), torch.full((2,), NAN)
    total, count = GaussianKLLoss(beta=0.5)(mean, a, missing, missing)
    total.backward()
    assert (total.item(), count.item()) == (0.0, 0)
    assert torch.equal(mean.grad, torch.zeros(2).double())
    assert torch.equal(a.grad, torch.zeros(2).double())


def test_beta_weighs_each_term_by_a_constant():
    mean, a = torch.tensor([0.3, 1.0, 2.0]).double(), doubles(0.4, -1.0, 0.2)
    low, high = torch.tensor([0.0, 3.0, 1.0]), torch.tensor([0.0, 3.0, 4.0])
    plain, weighed = (GaussianKLLoss(beta=beta).per_sample(mean, a, low, high) for beta in (0.0, 0.5))
    sigma = a.detach().mul(0.5).exp()
    torch.testing.assert_close(weighed, plain * sigma)
    (slope,) = torch.autograd.grad(weighed.sum(), a)
    (expected,) = torch.autograd.grad((plain * sigma).sum(), a)
    torch.testing.assert_close(slope, expected)


def test_with_beta_one_the_mean_gets_the_gradient_of_squared_error():
    mean, zero = doubles(0.3, -2.0), torch.zeros(2)
    GaussianKLLoss(beta=1.0)(mean, torch.tensor([3.0, -4.0]), zero, zero)[0].backward()
    torch.testing.assert_close(mean.grad, mean.detach())


@pytest.mark.parametrize("arguments", [{"form": "l2"}, {"beta": -0.1}, {"beta": 1.5}, {"beta": NAN}])
def test_gaussian_kl_refuses_unknown_settings(arguments):
    with pytest.raises(ValueError, match=r"form|beta"):
        GaussianKLLoss(**arguments)


def test_gaussian_kl_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="one shape"):
        GaussianKLLoss()(torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3), torch.zeros(3))


def losses_of_halves(loss, parameters, labels):
    """Return the gradient of two halves with their counts added, and that of the joined batch."""
    gradients = []
    for cuts in ([slice(0, 3), slice(3, None)], [slice(None)]):
        pairs = [loss(*(t[cut] for t in (*parameters, *labels))) for cut in cuts]
        total = sum(p[0] for p in pairs) / sum(p[1] for p in pairs)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)]))
    return gradients


@pytest.mark.parametrize("loss", [GaussianKLLoss(), GaussianKLLoss("robust", beta=0.5)])
def test_two_unequal_halves_give_the_gradient_of_the_joined_batch_for_age(loss):
    parameters = (torch.randn(7, requires_grad=True), torch.randn(7, requires_grad=True))
    low = torch.tensor([NAN, NAN, 1.0, 0.0, 2.0, 5.0, 0.3])
    torch.testing.assert_close(
        *losses_of_halves(loss, parameters, (low, low + torch.tensor([0.0, 0, 0, 0, 3, 1, 0])))
    )


@pytest.mark.parametrize(
    "loss", [MaskedCrossEntropy(), MaskedCrossEntropy(0.1), MaskedCrossEntropy(0.2, [0.5, 3.0, 1.0])]
)
def test_two_unequal_halves_give_the_gradient_of_the_joined_batch_for_classes(loss):
    logits, target = torch.randn(7, 3, requires_grad=True), torch.tensor([-1, -1, 1, 0, 2, 2, -1])
    torch.testing.assert_close(*losses_of_halves(loss, (logits,), (target,)))


# ------------------------------------------------------------------ MaskedCrossEntropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 3.0, 1.0]])
def test_cross_entropy_is_the_formula_written_out(smoothing, weights):
    logits, target = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, -1, 2, 1, -1])
    total, count = MaskedCrossEntropy(smoothing, weights)(logits, target)
    per_class = np.array(weights or [1.0] * 3)
    expected = weight = 0.0
    for row, label in zip(logits.numpy(), target.tolist(), strict=True):
        if label >= 0:
            log_p = row - np.log(np.exp(row).sum())
            smooth = smoothing / 3 * (per_class * log_p).sum()
            expected -= (1 - smoothing) * per_class[label] * log_p[label] + smooth
            weight += per_class[label]
    assert total.item() == pytest.approx(expected)
    assert count.item() == pytest.approx(weight)


@pytest.mark.parametrize("weights", [None, [0.5, 3.0, 1.0]])
def test_cross_entropy_of_some_classes_is_that_of_a_head_without_the_others(weights):
    logits, target = torch.randn(5, 3, requires_grad=True), torch.tensor([0, -1, 2, 1, 2])
    total, count = MaskedCrossEntropy(0.1, weights)(logits, target, (0, 2))
    total.backward()
    alone = MaskedCrossEntropy(0.1, weights and [weights[0], weights[2]])
    expected = alone(logits.detach()[:, [0, 2]], torch.tensor([0, -1, 1, -1, 1]))
    torch.testing.assert_close((total.detach(), count), expected)
    assert torch.equal(logits.grad[:, 1], torch.zeros(5))


@pytest.mark.parametrize("weights", [None, [1.0, 2.0]])
def test_cross_entropy_without_labels_is_an_exact_zero_on_the_graph(weights):
    logits = torch.randn(3, 2, requires_grad=True)
    total, count = MaskedCrossEntropy(0.1, weights)(logits, torch.full((3,), -1))
    total.backward()
    assert (total.item(), count.item()) == (0.0, 0)
    assert torch.equal(logits.grad, torch.zeros(3, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cross_entropy_leaves_half_precision(dtype):
    logits, target = torch.tensor([[30.0, -30.0], [1.0, 2.0]], dtype=dtype), torch.tensor([1, 0])
    with torch.autocast("cpu", dtype):
        total, _ = MaskedCrossEntropy(class_weights=[1.0, 2.0])(logits, target)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(2 * 60 + math.log1p(math.e))


IMPOSSIBLE = [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}]
IMPOSSIBLE += [{"class_weights": [1.0, 0.0]}, {"class_weights": [NAN, 1.0]}]


@pytest.mark.parametrize("arguments", IMPOSSIBLE)
def test_cross_entropy_refuses_impossible_settings(arguments):
    with pytest.raises(ValueError, match=r"smoothing|weights"):
        MaskedCrossEntropy(**arguments)


# ------------------------------------------------------------------ TaskWeighting

PRESENT = {"age": torch.tensor(True), "gender": torch.tensor(1)}


def test_fixed_weights_multiply():
    weighting = TaskWeighting({"age": 1.0, "gender": 0.5})
    total = weighting({"age": torch.tensor(-2.0).double(), "gender": torch.tensor(3.0)}, PRESENT)
    assert total.item() == -0.5
    assert list(weighting.parameters()) == []
    assert {name: w.item() for name, w in weighting.current().items()} == {"age": 1.0, "gender": 0.5}


def test_learned_weights_follow_kendall_for_all_but_age():
    weighting = TaskWeighting({"age": 2.0, "gender": 0.5}, learned=True)
    assert [name for name, _ in weighting.named_parameters()] == ["raw_log_scales.gender"]
    nn.init.constant_(weighting.raw_log_scales["gender"], 5.0)  # bounded to 2.5
    total = weighting({"age": torch.tensor(-2.0), "gender": torch.tensor(3.0)}, PRESENT)
    assert total.item() == pytest.approx(2 * -2 + 0.5 * (math.exp(-2.5) * 3 + 1.25))
    assert weighting.current()["gender"].item() == pytest.approx(0.5 * math.exp(-2.5))
    assert not weighting.current()["gender"].requires_grad


@pytest.mark.parametrize("learned", [False, True])
def test_an_absent_task_adds_an_exact_zero_and_keeps_its_graph(learned):
    weighting = TaskWeighting({"age": 1.0, "gender": 1.0}, learned)
    for parameter in weighting.parameters():
        nn.init.constant_(parameter, 0.7)
    losses = {"age": doubles(3.0).sum(), "gender": torch.tensor(0.0, requires_grad=True)}
    total = weighting(losses, PRESENT | {"gender": torch.tensor(False)})
    total.backward()
    assert total.item() == 3.0
    assert losses["gender"].grad == 0
    assert all(parameter.grad == 0 for parameter in weighting.parameters())


@pytest.mark.parametrize("loss", [0.0, 1e6])
def test_learned_weights_stay_finite_for_ever(loss):
    weighting = TaskWeighting({"gender": 1.0}, learned=True)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.5)
    for _ in range(2000):
        optimizer.zero_grad()
        weighting({"gender": torch.tensor(loss)}, {"gender": torch.tensor(True)}).backward()
        optimizer.step()
    assert math.exp(-5) < weighting.current()["gender"] < math.exp(5)


def test_learned_weights_settle_where_kendall_says():
    weighting = TaskWeighting({"gender": 1.0}, learned=True)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        weighting({"gender": torch.tensor(0.8)}, {"gender": torch.tensor(True)}).backward()
        optimizer.step()
    assert weighting.current()["gender"].item() == pytest.approx(1 / (2 * 0.8), rel=1e-3)  # d/ds = 0


@pytest.mark.parametrize("weights", [{}, {"age": -1.0}, {"age": NAN}, {"age": math.inf}])
def test_task_weights_must_be_finite_and_not_negative(weights):
    with pytest.raises(ValueError, match="weights"):
        TaskWeighting(weights)


def test_tasks_must_be_those_that_have_weights():
    weighting = TaskWeighting({"age": 1.0, "gender": 1.0})
    with pytest.raises(ValueError, match="gender"):
        weighting({"age": torch.tensor(1.0)}, {"age": torch.tensor(True)})
