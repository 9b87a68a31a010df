import math

import pytest
import torch
from scipy.stats import norm

from mtmsa_lightning.models.heads.age import GaussianAgeHead
from mtmsa_lightning.models.heads.classes import ClassHead

NAN = math.nan


def age_head(**kwargs) -> GaussianAgeHead:
    torch.manual_seed(0)
    head = GaussianAgeHead(8, **kwargs)
    head.set_age_statistics(32.6, 11.0)
    return head


def test_starts_with_the_spread_of_the_training_ages():
    age = age_head()(torch.randn(5, 8))
    assert age.mean.dtype == torch.float64
    torch.testing.assert_close(age.std, torch.full((5,), 11.0).double(), rtol=1e-2, atol=0)
    head = GaussianAgeHead(100_000)
    assert head.linear.weight[1].std().item() == pytest.approx(1e-4, rel=0.05)
    assert not head.linear.bias.any()


def test_raw_outputs_become_years():
    raw = torch.tensor([[0.0, 0.0], [1.0, 6.0], [-2.0, -10.0]])
    age = age_head().distribution(raw)
    assert age.mean.tolist() == pytest.approx([32.6, 43.6, 10.6])
    assert age.std.tolist() == pytest.approx([11.0, 11 * math.exp(1.5), 11 * math.exp(-2.5)])


def test_sigma_stays_in_its_range_whatever_comes():
    std = age_head().distribution(torch.tensor([[0.0, 1e30], [0.0, -1e30]])).std
    assert std.tolist() == pytest.approx([11 * math.exp(3), 11 * math.exp(-5)])


def test_loss_is_the_likelihood_in_standardised_years():
    head, raw = age_head(), torch.tensor([[0.2, 0.0], [0.2, 0.0], [9.0, 9.0]])
    low, high = torch.tensor([40.0, 25.0, NAN]), torch.tensor([40.0, 32.0, NAN])
    total, count = head.loss(raw, low, high)
    years = norm(32.6 + 0.2 * 11, 11.0)
    exact = -years.logpdf(40) - 0.5 * math.log(2 * math.pi) - math.log(11)
    group = -math.log(years.cdf(32.5) - years.cdf(24.5))
    assert count == 2
    assert total.item() == pytest.approx(exact + group, rel=1e-6)


@pytest.mark.parametrize("settings", [{"form": "robust"}, {"beta": 0.5}])
def test_settings_reach_the_loss(settings):
    raw, age = torch.tensor([[0.2, 1.0]]), torch.tensor([80.0])
    assert age_head(**settings).loss(raw, age, age)[0] != age_head().loss(raw, age, age)[0]


@pytest.mark.parametrize("start", [1e3, -1e3])
def test_a_lost_log_variance_finds_back_to_the_right_sigma(start):
    head, spread = age_head(), torch.linspace(-1, 1, 21)
    ages = 32.6 + 3.3 * spread / spread.std(correction=0)
    raw = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=10.0, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    outputs = torch.zeros(21)
    for _ in range(1000):
        optimizer.zero_grad()
        head.loss(torch.stack([outputs, raw.expand(21)], dim=1), ages, ages)[0].backward()
        optimizer.step()
        schedule.step()
    age = head.distribution(torch.stack([outputs, raw.detach().expand(21)], dim=1))
    assert age.std[0].item() == pytest.approx(3.3, rel=1e-4)


@pytest.mark.parametrize(
    ("mean", "std"), [(30, 0), (30, -1), (30, NAN), (30, math.inf), (NAN, 1), (math.inf, 1)]
)
def test_age_statistics_must_be_usable(mean, std):
    head = GaussianAgeHead(8)
    with pytest.raises(ValueError, match="age statistics"):
        head.set_age_statistics(mean, std)
    assert not head.fitted


def test_statistics_travel_in_the_state_dict_and_arguments_in_init_args():
    head = age_head(form="robust", beta=0.5, dropout=0.1)
    copy = GaussianAgeHead(8, **head.init_args)
    assert copy.init_args == {"form": "robust", "beta": 0.5, "dropout": 0.1}
    copy.load_state_dict(head.state_dict())
    assert copy.fitted
    assert (copy.age_mean.item(), copy.age_std.item()) == (32.6, 11.0)


@pytest.mark.parametrize("head", [age_head(), ClassHead(8, 3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_are_float32_under_autocast(head, dtype):
    features = torch.randn(4, 8)
    head = head.eval()
    outputs = head.raw if isinstance(head, type(age_head())) else head
    with torch.autocast("cpu", dtype):
        under_autocast = outputs(features)
        rounded = outputs(features.to(dtype))
    assert rounded.dtype == torch.float32
    assert torch.equal(under_autocast, outputs(features))


def test_class_head_gives_logits_and_their_masked_loss():
    head = ClassHead(8, 3, label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5), dropout=0.2).eval()
    logits, target = head(torch.randn(4, 8)), torch.tensor([0, 2, -1, 1])
    total, count = head.loss(logits, target)
    expected = torch.nn.functional.cross_entropy(
        logits, target, torch.tensor([1.0, 2.0, 0.5]), ignore_index=-1, label_smoothing=0.1
    )
    torch.testing.assert_close(total / count, expected)
    assert head.init_args == {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 0.5], "dropout": 0.2}
    assert ClassHead(8, 3, **head.init_args).state_dict().keys() == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize(("classes", "weights"), [(1, None), (3, [1.0, 2.0])])
def test_class_head_refuses_impossible_classes(classes, weights):
    with pytest.raises(ValueError, match="class"):
        ClassHead(8, classes, class_weights=weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_under_autocast_are_those_of_float32(dtype):
    """Errors of many standard deviations, exact ages and groups: half precision would overflow."""
    torch.manual_seed(0)
    low = torch.tensor([20.0, 90.0, 0.0, 60.0], dtype=torch.float64)
    high = torch.tensor([20.0, 90.0, 2.0, 100.0], dtype=torch.float64)
    features = torch.randn(4, 16).to(dtype)
    gradients = []
    for enabled in (False, True):
        head = GaussianAgeHead(16)
        torch.nn.init.constant_(head.linear.weight, 0.01)
        head.linear.bias.data = torch.tensor([0.3, -30.0])
        head.set_age_statistics(33.0, 11.0)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            total, _ = head.loss(head.raw(features if enabled else features.float()), low, high)
        total.backward()
        gradients.append(head.linear.weight.grad)
    assert torch.isfinite(gradients[1]).all()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
