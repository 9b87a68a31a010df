"""The losses against the authors' formulas, written out in numpy, and against one another."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtmsa_lightning import (
    CoralAgeHead,
    CornAgeHead,
    CrossEntropyAgeHead,
    DLDLAgeHead,
    DLDLv2AgeHead,
    GaussianKLLoss,
    L1AgeHead,
    L2AgeHead,
    MeanVarianceAgeHead,
)

FIRST, LAST = 18, 25
YEARS = np.arange(FIRST, LAST + 1)
LABELS = [(20, 20), (18, 18), (25, 25), (19, 22), (18, 25)]
LOW, HIGH = (torch.tensor(bounds).double() for bounds in zip(*LABELS, strict=True))


def head_of(kind, **arguments):
    head = kind(4, min_age=FIRST, max_age=LAST, **arguments)
    head.set_age_statistics(21.0, 2.0)
    return head


def logits(outputs: int = len(YEARS)) -> torch.Tensor:
    return torch.randn(len(LABELS), outputs, generator=torch.Generator().manual_seed(1)).double()


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def distance(age: float, low: float, high: float) -> float:
    return max(low - age, 0, age - high)


def group_mass(p: np.ndarray, low: int, high: int) -> float:
    return sum(p[year - FIRST] for year in range(low, high + 1))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_cross_entropy_is_the_mass_of_the_label():
    expected = [
        -math.log(group_mass(softmax(row), *label))
        for row, label in zip(logits().numpy(), LABELS, strict=True)
    ]
    found = head_of(CrossEntropyAgeHead).per_sample(logits(), LOW, HIGH)
    np.testing.assert_allclose(found, expected)
    torch.testing.assert_close(
        found[:3], F.cross_entropy(logits()[:3], torch.tensor([2, 0, 7]), reduction="none")
    )


def label_distribution(low: int, high: int, sigma: float) -> np.ndarray:
    rows = []
    for year in range(low, high + 1):
        density = np.exp(-((YEARS - year) ** 2) / (2 * sigma**2))
        rows.append(density / density.sum())
    return np.mean(rows, axis=0)


def test_dldl_is_the_divergence_from_the_label_distribution():
    expected = []
    for row, label in zip(logits().numpy(), LABELS, strict=True):
        q, p = label_distribution(*label, sigma=1.5), softmax(row)
        expected.append(sum(q[k] * math.log(q[k] / p[k]) for k in range(len(YEARS))))
    np.testing.assert_allclose(head_of(DLDLAgeHead, sigma=1.5).per_sample(logits(), LOW, HIGH), expected)


def test_dldl_is_zero_at_its_label_distribution_and_cross_entropy_for_a_narrow_one():
    q = np.stack([label_distribution(*label, sigma=2.0) for label in LABELS])
    best = head_of(DLDLAgeHead).per_sample(torch.from_numpy(np.log(q)), LOW, HIGH)
    np.testing.assert_allclose(best, 0, atol=1e-14)
    narrow = head_of(DLDLAgeHead, sigma=0.01).per_sample(logits(), LOW, HIGH)
    torch.testing.assert_close(narrow[:3], head_of(CrossEntropyAgeHead).per_sample(logits(), LOW, HIGH)[:3])


def test_dldl_v2_adds_the_error_of_the_expected_age():
    expected = [
        0.7 * distance(softmax(row) @ YEARS, *label)
        for row, label in zip(logits().numpy(), LABELS, strict=True)
    ]
    both = head_of(DLDLv2AgeHead, weight=0.7).per_sample(logits(), LOW, HIGH)
    np.testing.assert_allclose(
        both - head_of(DLDLAgeHead).per_sample(logits(), LOW, HIGH), expected, atol=1e-12
    )
    assert head_of(DLDLv2AgeHead).weight == 1.0


def test_mean_variance_adds_both_penalties_to_cross_entropy():
    expected = []
    for row, (low, high) in zip(logits().numpy(), LABELS, strict=True):
        p = softmax(row)
        mean = sum(p[k] * YEARS[k] for k in range(len(YEARS)))
        variance = sum(p[k] * (YEARS[k] - mean) ** 2 for k in range(len(YEARS)))
        even = np.var(np.arange(low, high + 1))
        terms = (
            -math.log(group_mass(p, low, high)),
            distance(mean, low, high) ** 2 / 2,
            max(variance - even, 0),
        )
        expected.append(terms[0] + 0.2 * terms[1] + 0.05 * terms[2])
    np.testing.assert_allclose(head_of(MeanVarianceAgeHead).per_sample(logits(), LOW, HIGH), expected)


def test_coral_is_the_sum_of_the_binary_cross_entropies_that_are_answered():
    z = logits(len(YEARS) - 1).sort(-1, descending=True).values
    expected = []
    for row, (low, high) in zip(z.numpy(), LABELS, strict=True):
        total = 0.0
        for k, year in enumerate(YEARS[:-1]):
            if low > year or high <= year:  # known whether older than the year
                levels = float(low > year)
                total -= math.log(sigmoid(row[k])) * levels + (math.log(sigmoid(row[k])) - row[k]) * (
                    1 - levels
                )
        expected.append(total)
    np.testing.assert_allclose(head_of(CoralAgeHead).per_sample(z, LOW, HIGH), expected)


def test_coral_probabilities_are_differences_of_its_answers():
    head = head_of(CoralAgeHead)
    z = head.raw(torch.randn(3, 4)).double()
    assert (z.diff(dim=-1) < 0).all()
    older = np.pad(1 / (1 + np.exp(-z.detach().numpy())), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    np.testing.assert_allclose(head.distribution(z).pmf.detach(), -np.diff(older), rtol=1e-9)
    torch.testing.assert_close(head.distribution(z).mean, FIRST + z.sigmoid().sum(-1))


def test_coral_shares_its_weights():
    head = head_of(CoralAgeHead)
    slopes = head.raw(torch.eye(4)) - head.raw(torch.zeros(1, 4))
    torch.testing.assert_close(slopes, slopes[:, :1].expand_as(slopes))
    assert sum(p.numel() for p in head.parameters()) == 4 + len(YEARS) - 1


def test_coral_of_two_years_is_logistic_regression():
    head = CoralAgeHead(4, min_age=0, max_age=1)
    head.set_age_statistics(0.5, 0.5)
    features, old = torch.randn(6, 4), torch.tensor([0.0, 1, 1, 0, 1, 0])
    expected = F.binary_cross_entropy_with_logits(head.linear(features)[:, 0], old, reduction="sum")
    torch.testing.assert_close(head.loss(head.raw(features), old, old)[0], expected.double())
    torch.testing.assert_close(head(features).pmf[:, 1], head.linear(features)[:, 0].sigmoid().double())


def test_corn_is_the_sum_over_the_questions_whose_condition_is_met():
    """The authors sum over tasks, each on the subset of faces whose rank exceeds the task's condition."""
    z = logits(len(YEARS) - 1)
    exact = LABELS[:3]
    total = 0.0
    for task in range(len(YEARS) - 1):
        for row, (age, _) in zip(z.numpy(), exact, strict=False):
            rank = age - FIRST
            if rank > task - 1:
                older = float(rank > task)
                total -= math.log(sigmoid(row[task])) * older + math.log(1 - sigmoid(row[task])) * (1 - older)
    found = head_of(CornAgeHead).per_sample(z, LOW, HIGH)
    assert found[:3].sum().item() == pytest.approx(total)


def test_corn_probabilities_are_products_and_groups_their_sums():
    z = logits(len(YEARS) - 1)
    head = head_of(CornAgeHead)
    for i, row in enumerate(z.numpy()):
        f = [sigmoid(value) for value in row] + [0.0]
        p = np.array([np.prod(f[:k]) * (1 - f[k]) for k in range(len(YEARS))])
        np.testing.assert_allclose(head.distribution(z).pmf[i], p)
        mass = group_mass(p, *LABELS[i])
        assert head.per_sample(z, LOW, HIGH)[i].item() == pytest.approx(-math.log(mass))


@pytest.mark.parametrize("kind", [CrossEntropyAgeHead, CoralAgeHead, CornAgeHead])
def test_all_heads_of_years_start_from_one_distribution(kind):
    """The logistic distribution with the statistics of the training ages, its tails in the end years."""
    pmf = head_of(kind)(torch.zeros(1, 4)).pmf[0].detach()
    cumulative = 1 / (1 + np.exp(-(YEARS[:-1] + 0.5 - 21.0) * math.pi / (math.sqrt(3) * 2.0)))
    np.testing.assert_allclose(pmf, np.diff(cumulative, prepend=0, append=1), rtol=1e-5)


# ------------------------------------------------------------------ plain regression


def regression(kind):
    head = kind(4)
    head.set_age_statistics(30.0, 10.0)
    return head


RAW = torch.tensor([[0.5], [-1.0], [0.2], [0.2]], dtype=torch.float64)  # 35, 20, 32 and 32 years
AGE_LOW, AGE_HIGH = (
    torch.tensor([30.0, 24.0, 25.0, 38.0]).double(),
    torch.tensor([30.0, 24.0, 36.0, 43.0]).double(),
)


@pytest.mark.parametrize(
    ("kind", "errors", "slopes"),
    [
        (L2AgeHead, [0.125, 0.08, 0.0, 0.18], [0.5, -0.4, 0.0, -0.6]),
        (L1AgeHead, [0.5, 0.4, 0.0, 0.6], [1.0, -1.0, 0.0, -1.0]),
    ],
)
def test_the_network_learns_from_the_plain_error(kind, errors, slopes):
    head, raw = regression(kind), RAW.clone().requires_grad_()
    losses = head.per_sample(raw, AGE_LOW, AGE_HIGH)
    (gradient,) = torch.autograd.grad(losses.sum(), raw)
    np.testing.assert_allclose(gradient[:, 0], slopes, atol=1e-12)
    age = head.distribution(raw)
    likelihood = torch.where(
        AGE_LOW == AGE_HIGH, age.log_prob(AGE_LOW), age.log_interval_prob(AGE_LOW - 0.5, AGE_HIGH + 0.5)
    )
    np.testing.assert_allclose((losses + likelihood).detach(), errors, atol=1e-12)


@pytest.mark.parametrize("kind", [L1AgeHead, L2AgeHead])
def test_the_scale_becomes_that_of_the_training_residuals(kind):
    head = regression(kind)
    residuals = torch.randn(500, generator=torch.Generator().manual_seed(2)).double() * 4
    raw, ages = torch.zeros(500, 1, dtype=torch.float64), 30 + residuals
    optimizer = torch.optim.Adam([head.log_scale], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (head.loss(raw, ages, ages)[0] / 500).backward()
        optimizer.step()
    residual = (
        residuals.square().mean().sqrt() if kind is L2AgeHead else residuals.abs().mean() * math.sqrt(2)
    )
    torch.testing.assert_close(head.distribution(raw).std[0], residual, rtol=1e-3, atol=0)
    assert "log_scale" in head.state_dict()


def test_least_squares_is_the_gaussian_loss_with_beta_one_for_the_network():
    head, raw = regression(L2AgeHead), RAW[:2].clone().requires_grad_()
    ages = AGE_LOW[:2]
    torch.nn.init.constant_(head.log_scale, -0.7)
    (ours,) = torch.autograd.grad(head.loss(raw, ages, ages)[0], raw)
    target = (ages - 30) / 10
    gaussian, _ = GaussianKLLoss(beta=1.0)(raw[:, 0], torch.full((2,), -1.4).double(), target, target)
    (theirs,) = torch.autograd.grad(gaussian, raw)
    torch.testing.assert_close(ours, theirs)
