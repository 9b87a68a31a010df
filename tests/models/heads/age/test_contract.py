"""What every age head promises, whatever its formula."""

import math

import pytest
import torch

import mtmsa_lightning
from mtmsa_lightning.metrics import AgeNLL
from mtmsa_lightning.metrics.masked_mean import MaskedMean
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.models.distributions import CalibratedAge, distribution_from_columns
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.runs.head_specs import build_head, head_spec

NAN = math.nan
HEADS = sorted(set(age_heads.__all__) - {"AgeHead"})
every_head = pytest.mark.parametrize("name", HEADS)
OF_YEARS = [name for name in HEADS if name not in ("GaussianAgeHead", "L1AgeHead", "L2AgeHead")]


def head_of(name: str, in_features: int = 8, **arguments):
    torch.manual_seed(0)
    head = getattr(mtmsa_lightning, name)(in_features, **arguments)
    head.set_age_statistics(32.6, 11.0)
    return head


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


LOW = doubles(20.0, 90.0, 0.0, 60.0, NAN, 33.0, 25.0)
HIGH = doubles(20.0, 90.0, 2.0, 100.0, NAN, 33.0, 32.0)


@every_head
def test_starts_at_the_ages_of_the_training_split(name):
    age = head_of(name)(torch.zeros(3, 8))
    torch.testing.assert_close(age.mean, torch.full((3,), 32.6).double(), atol=0.5, rtol=0)
    deviation = 11.0 * math.sqrt(2) if name == "L1AgeHead" else 11.0
    torch.testing.assert_close(age.std, torch.full((3,), deviation).double(), atol=0, rtol=0.05)


@every_head
def test_gives_a_distribution_that_a_table_can_hold(name):
    with torch.no_grad():
        age = head_of(name)(torch.randn(4, 8))
    assert age.mean.shape == age.std.shape == (4,)
    assert age.mean.dtype == torch.float64
    torch.testing.assert_close(age.interval_prob(-math.inf, math.inf), torch.ones(4).double())
    again = distribution_from_columns(age.columns())
    torch.testing.assert_close(again.log_prob(31.0), age.log_prob(31.0))
    torch.testing.assert_close(again.crps(31.0), age.crps(31.0))


@every_head
def test_the_loss_has_the_gradient_of_finite_differences(name):
    few_years = {"min_age": 10, "max_age": 35} if name in OF_YEARS else {}
    head = head_of(name, **few_years).double()
    features = torch.randn(7, 8, dtype=torch.float64)
    raw = head.raw(features).detach().requires_grad_()
    if name in ("L1AgeHead", "L2AgeHead"):  # their scale learns from constant predictions
        raw = head.raw(features)
        assert torch.autograd.gradcheck(
            lambda scale: torch.func.functional_call(_Loss(head), {"head.log_scale": scale}, raw.detach())[0],
            (head.log_scale.detach().clone().requires_grad_(),),
        )
        return
    assert torch.autograd.gradcheck(lambda raw: head.loss(raw, LOW, HIGH)[0], (raw,))


@every_head
def test_a_label_outside_the_years_makes_no_metric_infinite(name):
    head = head_of(name, **({"min_age": 10, "max_age": 35} if name in OF_YEARS else {}))
    age = head(torch.randn(7, 8))
    calibrated = CalibratedAge(age, {0.9: (age.mean - 5, age.mean + 5)})
    for spec in METRICS:
        metric = spec.build(2)
        if spec.task == "age" and isinstance(metric, MaskedMean):
            for distribution in (age, calibrated):
                values, counted = metric.per_face(distribution, LOW, HIGH)
                assert values[counted].isfinite().all(), spec.name
    if name in OF_YEARS:  # the rule of the head's loss
        last, beyond = torch.full((7,), 35.0), torch.full((7,), 90.0)
        raw = head.raw(torch.randn(7, 8))
        assert torch.equal(head.loss(raw, last, last)[0], head.loss(raw, beyond, beyond)[0])
        nll = [AgeNLL().per_face(age, label, label)[0] for label in (last, beyond)]
        assert torch.equal(*nll)


class _Loss(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, raw):
        return self.head.loss(raw, LOW, HIGH)


@every_head
def test_missing_labels_count_nothing_and_pass_no_gradient(name):
    head = head_of(name)
    features = torch.randn(7, 8)
    raw = head.raw(features)
    total, count = head.loss(raw, LOW, HIGH)
    kept = ~LOW.isnan()
    alone, _ = head.loss(raw[kept], LOW[kept], HIGH[kept])
    assert (total.dtype, count.dtype, count.item()) == (torch.float64, torch.int64, 6)
    torch.testing.assert_close(total, alone)
    broken = raw.detach().clone()
    broken[4] = math.inf
    broken.requires_grad_()
    spoilt, _ = head.loss(broken, LOW, HIGH)
    spoilt.backward()
    torch.testing.assert_close(spoilt, total)
    assert broken.grad.isfinite().all()
    assert not broken.grad[4].any()


@every_head
def test_a_batch_without_labels_is_an_exact_zero_that_reaches_every_parameter(name):
    head, missing = head_of(name), torch.full((3,), NAN)
    total, count = head.loss(head.raw(torch.randn(3, 8)), missing, missing)
    total.backward()
    assert (total.item(), count.item()) == (0.0, 0)
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in head.parameters())


@every_head
def test_two_unequal_halves_give_the_gradient_of_the_joined_batch(name):
    head, features = head_of(name), torch.randn(7, 8)
    gradients = []
    for cuts in ([slice(0, 5), slice(5, None)], [slice(None)]):
        pairs = [head.loss(head.raw(features[cut]), LOW[cut], HIGH[cut]) for cut in cuts]
        total = sum(p[0] for p in pairs) / sum(p[1] for p in pairs)
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(total, list(head.parameters()))])
        )
    torch.testing.assert_close(*gradients)


@every_head
@pytest.mark.parametrize("group", [False, True])
def test_learns_ages_from_exact_labels_and_from_groups(name, group):
    """Age is linear in two of eight features; groups are decades."""
    head = head_of(name)
    features = torch.randn(200, 8)
    ages = (32.6 + 8 * features[:, 0] + 6 * features[:, 1]).round().clamp(0, 116).double()
    low, high = (10 * (ages // 10), 10 * (ages // 10) + 9) if group else (ages, ages)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        total, count = head.loss(head.raw(features), low, high)
        (total / count).backward()
        optimizer.step()
        losses.append(total.item())
    age = head(features)
    assert losses[-1] < losses[0]
    guess = (ages - ages.mean()).abs().mean()
    assert (age.mean - ages).abs().mean() < (0.45 if group else 0.3) * guess
    assert age.log_interval_prob(low - 0.5, high + 0.5).mean().isfinite()


@every_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_and_gradients_under_autocast_are_those_of_float32(name, dtype):
    features = torch.randn(7, 8).to(dtype)
    results = []
    for enabled in (False, True):
        head = head_of(name)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            raw = head.raw(features if enabled else features.float())
            total, _ = head.loss(raw, LOW, HIGH)
        total.backward()
        assert raw.dtype in (torch.float32, torch.float64)
        results.append([raw, *(parameter.grad for parameter in head.parameters())])
    for plain, mixed in zip(*results, strict=True):
        assert torch.isfinite(mixed).all()
        torch.testing.assert_close(plain, mixed, rtol=1e-5, atol=1e-6)


@every_head
def test_is_rebuilt_from_its_record_and_state(name):
    head = head_of(name, dropout=0.1)
    record = head_spec(head)
    assert record["class_path"] == f"mtmsa_lightning.{name}"
    copy = build_head(record, 8)
    copy.load_state_dict(head.state_dict())
    assert type(copy) is type(head)
    assert copy.init_args == head.init_args
    features = torch.randn(3, 8)
    torch.testing.assert_close(copy.eval()(features).std, head.eval()(features).std)
    assert copy.fitted


@pytest.mark.parametrize("name", OF_YEARS)
def test_a_label_outside_the_years_is_learned_as_the_nearest_of_them(name):
    head = head_of(name, min_age=16, max_age=77)
    raw = head.raw(torch.randn(4, 8))
    outside = head.loss(raw, doubles(5, 90, 60, 0), doubles(5, 90, 100, 18))[0]
    inside = head.loss(raw, doubles(16, 77, 60, 16), doubles(16, 77, 77, 18))[0]
    torch.testing.assert_close(outside, inside)
    assert head.init_args["min_age"] == 16
    assert head.distribution(raw).pmf.shape == (4, 62)


@pytest.mark.parametrize("name", OF_YEARS)
def test_probabilities_stay_probabilities_whatever_comes(name):
    head = head_of(name)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=20)
    age = head(10 * torch.randn(20, 8))
    assert (age.pmf >= 0).all()
    torch.testing.assert_close(age.pmf.sum(-1), torch.ones(20).double())
    assert age.log_pmf.isfinite().all()


@pytest.mark.parametrize("name", OF_YEARS)
@pytest.mark.parametrize("years", [(-1, 10), (30, 30), (40, 30)])
def test_impossible_years_are_refused(name, years):
    with pytest.raises(ValueError, match="min_age < max_age"):
        head_of(name, min_age=years[0], max_age=years[1])


WRONG = [
    ("DLDLAgeHead", {"sigma": 0.0}, "sigma"),
    ("DLDLv2AgeHead", {"weight": -1.0}, "weight"),
    ("MeanVarianceAgeHead", {"mean_weight": -1.0}, "weights"),
    ("MeanVarianceAgeHead", {"variance_weight": NAN}, "weights"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG)
def test_impossible_settings_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        head_of(name, **arguments)
