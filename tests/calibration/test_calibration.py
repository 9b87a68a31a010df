import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from mtmsa_lightning.calibration.calibration import FACTOR_RANGE, LEVELS, Calibration
from mtmsa_lightning.calibration.conformal import conformal_quantile, conformal_scores, coverage_deviation
from mtmsa_lightning.calibration.fitting import (
    fit_calibration,
    fit_sigma_scale,
    fit_temperature,
    minimise_factor,
)
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.models.distributions import (
    AgeDistribution,
    CategoricalAge,
    GaussianAge,
    distribution_from_columns,
)

PERCENTS = st.integers(1, 99)


def tensor(values) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, float), dtype=torch.float64)


class LaplaceAge(AgeDistribution):
    """A distribution that is no Gaussian, by the interface alone."""

    def __init__(self, mean, std):
        self._mean, self._std = mean, std
        self.law = torch.distributions.Laplace(mean, std / math.sqrt(2))

    mean = property(lambda self: self._mean)
    std = property(lambda self: self._std)

    def interval_prob(self, low, high):
        return self.law.cdf(high) - self.law.cdf(low)

    def log_prob(self, age):
        return self.law.log_prob(age)

    def quantile(self, p):
        return self.law.icdf(tensor(p))

    def scaled(self, scale):
        return LaplaceAge(self._mean, self._std * scale)

    def __getitem__(self, rows):
        return LaplaceAge(self._mean[rows], self._std[rows])

    def columns(self):
        return {}


# ------------------------------------------------------------------------ conformal quantile


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), PERCENTS)
def test_with_one_face_each_it_is_the_ceil_of_n_plus_1_times_p_th_smallest_score(scores, percent):
    place = math.ceil((len(scores) + 1) * Fraction(percent, 100))
    expected = sorted(scores)[place - 1] if place <= len(scores) else math.inf
    assert conformal_quantile(tensor(scores), torch.arange(len(scores)), percent / 100) == expected


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), min_size=1, max_size=40), PERCENTS)
def test_subjects_weigh_the_same_however_many_faces_they_have(faces, percent):
    subjects = [subject for _, subject in faces]
    number = len(set(subjects))
    expected = math.inf
    for threshold in sorted({score for score, _ in faces}, reverse=True):
        mass = sum(Fraction(1, subjects.count(s) * (number + 1)) for score, s in faces if score <= threshold)
        if mass >= Fraction(percent, 100):
            expected = threshold
    scores = tensor([score for score, _ in faces])
    assert conformal_quantile(scores, torch.tensor(subjects), percent / 100) == expected


@pytest.mark.parametrize(("level", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_too_few_subjects_give_an_infinite_quantile_however_many_faces(level, least):
    scores = tensor(np.arange(5 * least))
    assert math.isinf(conformal_quantile(scores, torch.arange(5 * least) % max(least - 1, 1), level)) == (
        least > 1
    )
    assert math.isfinite(conformal_quantile(scores, torch.arange(5 * least) % least, level))


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_exchangeable_faces_are_covered_as_often_as_stated(level):
    """Uniform scores: a quantile is its own coverage; its mean is ceil((n + 1) p) / (n + 1)."""
    n, draws = 40, 800
    rng = np.random.default_rng(0)
    units = torch.arange(n)
    covered = [conformal_quantile(tensor(rng.uniform(size=n)), units, level) for _ in range(draws)]
    target = math.ceil((n + 1) * level) / (n + 1)
    assert abs(np.mean(covered) - target) < 3 * math.sqrt(level * (1 - level) / n / draws)
    spread = coverage_deviation(level, n, 10**9)
    assert np.std(covered) == pytest.approx(spread, rel=0.1), "the formula by which gaps are judged"


def test_new_subjects_are_covered_where_hard_subjects_have_many_faces():
    """Faces as units would cover too much here: the subjects with many faces have the large scores."""
    rng = np.random.default_rng(1)

    def draw(subjects):
        size = rng.integers(1, 12, subjects)
        units = np.repeat(np.arange(subjects), size)
        return tensor(size[units] * rng.uniform(0.8, 1.2, len(units))), torch.from_numpy(units)

    new, unit = draw(4000)
    by_subject, by_face = [], []
    for _ in range(300):
        scores, units = draw(60)
        for found, each in ((by_subject, units), (by_face, torch.arange(len(units)))):
            covered = (new <= conformal_quantile(scores, each, 0.8)).double()
            share = torch.zeros(4000, dtype=torch.float64).index_add_(0, unit, covered) / unit.bincount()
            found.append(float(share.mean()))
    deviation = math.sqrt(0.16 * (1 / 60 / 300 + 1 / 4000))
    assert 0.8 - 3 * deviation < np.mean(by_subject) < 0.8 + 1 / 61 + 3 * deviation
    assert np.mean(by_face) > 0.85


def test_a_group_is_covered_when_the_interval_holds_it_whole():
    age = GaussianAge(tensor([30, 30, 30, 30]), tensor([4, 4, 4, 4]))
    low, high = tensor([25, 25, 38, math.nan]), tensor([32, 38, 43, math.nan])
    scores = conformal_scores(age, low, high)
    np.testing.assert_array_equal(scores, [5 / 4, 8 / 4, 13 / 4, math.nan])
    fitted = Calibration(quantiles={0.9: 2.0})
    first, last = fitted.age(age).interval(0.9)
    assert ((first <= low) & (high <= last)).tolist() == [True, True, False, False]
    assert (scores <= 2.0).tolist() == [True, True, False, False]


# ------------------------------------------------------------------------ sigma and temperature


def predictions(n=400, seed=0, factor=1.7):
    rng = np.random.default_rng(seed)
    mean, std = rng.uniform(5, 80, n), rng.uniform(1, 9, n)
    return mean, std, np.round(rng.normal(mean, factor * std))


def test_the_closed_form_is_the_minimum_of_the_likelihood():
    mean, std, age = predictions()
    found = optimize.minimize_scalar(lambda s: -stats.norm.logpdf(age, mean, s * std).sum(), (1, 2))
    scale = fit_sigma_scale(GaussianAge(tensor(mean), tensor(std)), tensor(age), tensor(age))
    assert scale == pytest.approx(found.x, rel=1e-6)
    assert scale == pytest.approx(1.7, abs=0.15)


@pytest.mark.parametrize("width", [3, 9], ids=["narrow", "wide"])
def test_groups_are_fitted_by_the_mass_of_their_interval(width):
    mean, std, age = predictions()
    low = age // width * width
    high = low + width - 1
    low[::5], high[::5] = age[::5], age[::5]  # every fifth is exact
    low[1], high[1] = np.nan, np.nan
    exact, group = low == high, low < high

    def loss(log_scale):
        spread = math.exp(log_scale) * std
        mass = special.log_ndtr((high + 0.5 - mean) / spread), special.log_ndtr((low - 0.5 - mean) / spread)
        interval = special.logsumexp(mass, axis=0, b=np.array([[1], [-1]]))
        return -(interval[group].sum() + stats.norm.logpdf(age, mean, spread)[exact].sum())

    found = optimize.minimize_scalar(loss, (0.0, 1.0), tol=1e-10)
    scale = fit_sigma_scale(GaussianAge(tensor(mean), tensor(std)), tensor(low), tensor(high))
    assert scale == pytest.approx(math.exp(found.x), rel=1e-6)


def test_any_distribution_is_fitted_by_its_own_likelihood():
    """Of Laplace laws the likeliest scale is the mean of |d| / b."""
    mean, std, age = predictions()
    scale = fit_sigma_scale(LaplaceAge(tensor(mean), tensor(std)), tensor(age), tensor(age))
    assert scale == pytest.approx(np.mean(np.abs(age - mean) * math.sqrt(2) / std), rel=1e-6)


def test_a_perfect_prediction_ends_at_the_range():
    age = GaussianAge(tensor([20, 30]), tensor([3, 3]))
    assert fit_sigma_scale(age, tensor([20, 30]), tensor([20, 30])) == FACTOR_RANGE[0]
    groups = fit_sigma_scale(age, tensor([18, 28]), tensor([22, 32]))
    assert groups == pytest.approx(FACTOR_RANGE[0], rel=1e-6)


@pytest.mark.parametrize("sign", [1, -1], ids=["all right", "all wrong"])
def test_a_temperature_at_the_limit_of_the_search_is_said_to_be_there(sign):
    fitted = fit_temperature(sign * tensor([[1, 0], [0, 1]]), torch.tensor([0, 1]))
    on = dict.fromkeys(("part", "dataset", "protocol", "fold", "faces", "subjects", "unit"), "")
    on |= {"chose_checkpoint": False, "faces": 2, "subjects": 1, "unit": "subjects"}
    calibration = Calibration(temperatures={"gender": fitted, "race": 1.5})
    assert calibration.describe().startswith("calibrated on faces that are not recorded: gender temperature")
    said = replace(calibration, fitted_on=on).describe()
    assert f"gender temperature {fitted:.3f} (at the limit of the search), race temperature 1.500" in said
    assert said.count("limit") == 1
    assert "2 faces, 1 subject)" in said
    assert calibration.at_limit == calibration.to_dict()["at_search_limit"] == ["gender temperature"]
    assert "gender temperature" in calibration.describe_limit()
    assert not Calibration(temperatures={"race": 1.5}).describe_limit()


@pytest.mark.parametrize("scale", FACTOR_RANGE)
def test_a_scale_at_the_limit_of_the_search_is_flagged(scale):
    calibration = Calibration(sigma_scale=scale, quantiles={0.9: 1.0})
    assert calibration.at_limit == ["sigma"]
    assert f"sigma x {scale:.3f} (at the limit of the search)" in calibration.describe()
    assert Calibration.from_dict(calibration.to_dict()) == calibration


@pytest.mark.parametrize("groups", [False, True], ids=["exact", "groups"])
def test_a_label_outside_the_years_of_a_head_counts_as_the_nearest(groups):
    years = torch.arange(41.0, dtype=torch.float64)
    mean, _, age = (tensor(values) for values in predictions(200))
    mean, low = 5 + mean * 0.4, (5 + age * 0.4).round().clamp(0, 36)
    head = CategoricalAge((-0.5 * ((years - mean[:, None]) / 3).square()).log_softmax(-1))
    high = low + 3 if groups else low.clone()
    wide_low, wide_high = low.clone(), high.clone()
    low[:5] = high[:5] = 40.0
    wide_low[:5], wide_high[:5] = 60.0, 63.0 if groups else 60.0
    expected = fit_sigma_scale(head, low, high)
    found = fit_calibration(head, wide_low, wide_high, {}, torch.arange(200))
    assert found.sigma_scale == pytest.approx(expected, rel=1e-9)
    assert not found.at_limit
    scores = conformal_scores(head, wide_low, wide_high)
    assert found.quantiles[0.95] == conformal_quantile(scores, torch.arange(200), 0.95), "labels as they are"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_that_are_not_finite_cannot_be_calibrated(value):
    age = GaussianAge(tensor([20, value, 40, 50]), tensor([3, 3, 3, 3]))
    low = tensor([20, 30, 41, 50])
    for ends in ((low, low), (low, low + 4)):
        with pytest.raises(DataError, match="of 1 of 4 labelled faces is not finite"):
            fit_calibration(age, *ends, {}, torch.arange(4))
        with pytest.raises(DataError, match=r"no scale of sigma between 0\.05 and 20 has a finite loss"):
            fit_sigma_scale(age, *ends)
    with pytest.raises(DataError, match="no temperature between"):
        fit_temperature(tensor([[value, 0], [0, value]]), torch.tensor([0, 1]))


def test_a_search_passes_over_what_is_not_finite():
    def loss(factor):
        return math.nan if factor < 1 else math.inf if factor < 2 else (factor - 3) ** 2

    assert minimise_factor(loss, "factor") == pytest.approx(3)


def test_the_temperature_is_the_minimum_of_the_cross_entropy():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(300, 4)) * 3, rng.integers(-1, 4, 300)
    known = target >= 0
    right = rng.uniform(size=300) < 0.6
    target[known & right] = logits.argmax(1)[known & right]

    def loss(log_temperature):
        log_probs = special.log_softmax(logits[known] / math.exp(log_temperature), axis=1)
        return -log_probs[np.arange(known.sum()), target[known]].mean()

    found = optimize.minimize_scalar(loss, (0.0, 1.0), tol=1e-10)
    fitted = fit_temperature(tensor(logits), torch.from_numpy(target))
    assert fitted == pytest.approx(math.exp(found.x), rel=1e-6)


# ------------------------------------------------------------------------ the whole


@pytest.fixture
def fitted() -> tuple[GaussianAge, torch.Tensor, Calibration]:
    mean, std, age = predictions(100)
    raw = GaussianAge(tensor(mean), tensor(std))
    logits, target = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 2
    classes = {"gender": (logits, target), "race": (logits, torch.full((100,), -1))}
    return raw, tensor(age), fit_calibration(raw, tensor(age), tensor(age), classes, torch.arange(100))


def test_what_has_no_labels_stays_as_it_is(fitted):
    raw, age, calibration = fitted
    assert calibration.temperatures.keys() == {"gender"}
    assert tuple(calibration.quantiles) == LEVELS
    logits = torch.randn(3, 2)
    assert torch.equal(calibration.logits("race", logits), logits)
    torch.testing.assert_close(
        calibration.logits("gender", logits) * calibration.temperatures["gender"], logits
    )
    missing = torch.full_like(age, torch.nan)
    nothing = fit_calibration(raw, missing, missing, {}, torch.arange(100))
    assert nothing == Calibration()
    assert type(nothing.age(raw)) is GaussianAge


def test_the_intervals_do_not_depend_on_the_scale_of_sigma(fitted):
    raw, age, calibration = fitted
    again = fit_calibration(raw.scaled(3.0), age, age, {}, torch.arange(100))
    assert again.sigma_scale == pytest.approx(calibration.sigma_scale / 3)
    for level in LEVELS:
        ends = zip(
            again.age(raw.scaled(3.0)).interval(level), calibration.age(raw).interval(level), strict=True
        )
        for first, second in ends:
            torch.testing.assert_close(first, second)


def test_the_intervals_cover_the_faces_fitted_on_as_stated(fitted):
    raw, age, calibration = fitted
    for level in LEVELS:
        low, high = calibration.age(raw).interval(level)
        assert ((low <= age) & (age <= high)).sum() >= math.ceil(101 * level)


def test_a_table_of_calibrated_ages_brings_its_intervals_along(fitted):
    raw, _, calibration = fitted
    age = calibration.age(raw)
    columns = age.columns()
    assert {"age_mean", "age_std", "age_low50", "age_high50", "age_low95", "age_high95"} <= columns.keys()
    again = distribution_from_columns(columns)
    for level in LEVELS:
        assert all(map(torch.equal, again.interval(level), age.interval(level)))
    torch.testing.assert_close(again.log_prob(30.0), raw.scaled(calibration.sigma_scale).log_prob(30.0))
    torch.testing.assert_close(again.crps(30.0), raw.scaled(calibration.sigma_scale).crps(30.0))


def test_plain_values_survive_json_and_a_checkpoint(fitted, tmp_path):
    *_, calibration = fitted
    few = Calibration(quantiles={0.5: 1.0, 0.95: math.inf}, max_width=20.0)
    for each in (calibration, few):
        text = json.dumps(each.to_dict(), allow_nan=False)
        assert Calibration.from_dict(json.loads(text)) == each
        torch.save({"calibration": each.to_dict()}, tmp_path / "x.ckpt")
        loaded = torch.load(tmp_path / "x.ckpt", weights_only=True)["calibration"]
        assert Calibration.from_dict(loaded) == each


def test_a_face_is_unsure_by_width_or_by_its_likeliest_group():
    raw = GaussianAge(tensor([10, 10, 30]), tensor([1, 4, 4]))  # 30 lies well inside a wide group
    by_width = Calibration(quantiles={0.9: 2.0}, max_width=10.0)
    by_group = Calibration(min_group_prob=0.8)
    both = Calibration(quantiles={0.9: 2.0}, max_width=10.0, min_group_prob=0.8)
    assert by_width.unsure(by_width.age(raw)).tolist() == [False, True, True]
    assert by_group.unsure(by_group.age(raw)).tolist() == [False, True, False]
    assert both.unsure(both.age(raw)).tolist() == [False, True, True]
    infinite = Calibration(quantiles={0.9: math.inf}, max_width=100.0)
    assert infinite.unsure(infinite.age(raw)).all()
    assert not Calibration().abstains
