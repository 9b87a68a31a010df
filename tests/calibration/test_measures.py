import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from mtmsa_lightning.calibration.measures import (
    KEPT,
    LabelledPredictions,
    age_risk,
    calibration_metrics,
    risk_by_threshold,
)
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import GaussianAge

RNG = np.random.default_rng(0)
MEAN, STD = RNG.uniform(5, 80, 60), RNG.uniform(2, 9, 60)
AGE = np.round(RNG.normal(MEAN, STD))
SUBJECT = RNG.integers(0, 20, 60)
LOGITS, TARGET = RNG.normal(size=(60, 3)), RNG.integers(-1, 3, 60)


def said(low=AGE, high=AGE, **changes) -> LabelledPredictions:
    classes = {"race": (torch.from_numpy(LOGITS), torch.from_numpy(TARGET))}
    age = GaussianAge(torch.from_numpy(MEAN), torch.from_numpy(STD))
    faces = LabelledPredictions(
        age, torch.from_numpy(low), torch.from_numpy(high), classes, torch.from_numpy(SUBJECT)
    )
    return faces._replace(**changes)


def test_metrics_are_those_of_numpy():
    metrics = calibration_metrics(said())
    assert (metrics["faces"], metrics["subjects"]) == (60, len(set(SUBJECT)))
    for percent in (50, 80, 90, 95):
        low, high = stats.norm.interval(percent / 100, MEAN, STD)
        covered = (low <= AGE) & (high >= AGE)
        assert metrics["coverage"][str(percent)] == pytest.approx(covered.mean())
        by_subject = np.mean([covered[each == SUBJECT].mean() for each in set(SUBJECT)])
        assert metrics["coverage_by_subject"][str(percent)] == pytest.approx(by_subject)
        assert metrics["width"][str(percent)] == pytest.approx((high - low).mean())
    assert metrics["age_nll"] == pytest.approx(-stats.norm.logpdf(AGE, MEAN, STD).mean())
    known = TARGET >= 0
    log_probs = special.log_softmax(LOGITS, axis=1)[known, TARGET[known]]
    assert metrics["race_nll"] == pytest.approx(-log_probs.mean())
    assert metrics["age_interval_nll"] is None, "there are no groups"


def test_a_group_counts_as_covered_when_the_interval_holds_it_whole():
    low, high = AGE - 2, AGE + 4
    metrics = calibration_metrics(said(low, high))
    first, last = stats.norm.interval(0.9, MEAN, STD)
    assert metrics["coverage"]["90"] == pytest.approx(((first <= low) & (high <= last)).mean())
    assert metrics["age_nll"] is None


def test_what_has_no_label_or_no_head_has_no_metric():
    missing = np.full(60, np.nan)
    metrics = calibration_metrics(said(missing, missing))
    assert metrics["faces"] == 0
    assert metrics["age_nll"] is metrics["coverage"]["90"] is None
    assert calibration_metrics(said(age=None)).keys() == {"race_ece", "race_nll"}


def test_each_threshold_keeps_the_surest_faces():
    risk = np.abs(MEAN - AGE)
    order = np.argsort(STD)
    for share, row in zip(
        KEPT, risk_by_threshold(torch.from_numpy(STD), torch.from_numpy(risk)), strict=True
    ):
        kept = order[: round(share * 60)]
        assert row.threshold == STD[kept].max()
        assert row.kept == pytest.approx(len(kept) / 60)
        assert row.risk == pytest.approx(risk[kept].mean())


def test_equally_unsure_faces_are_kept_together():
    rows = risk_by_threshold(torch.ones(10), torch.arange(10.0))
    assert {(row.threshold, row.kept, row.risk) for row in rows} == {(1.0, 1.0, 4.5)}


def test_the_risk_is_the_error_or_with_groups_the_wrong_group():
    title, risk = age_risk(said())
    assert title == "MAE (years)"
    np.testing.assert_allclose(risk, np.abs(MEAN - AGE))
    low, high = AGE.copy(), AGE.copy()
    low[0], high[0], low[1], high[1] = 25, 32, math.nan, math.nan
    title, risk = age_risk(said(low, high))
    edges = np.array([-np.inf, *AGE_GROUP_EDGES, np.inf])
    likeliest = np.diff(stats.norm.cdf(edges, MEAN[:, None], STD[:, None]), axis=1).argmax(1)
    middle = (low + high) / 2
    known = ~np.isnan(middle)
    assert title == "wrong group"
    np.testing.assert_array_equal(risk, (likeliest != np.searchsorted(AGE_GROUP_EDGES, middle))[known])
