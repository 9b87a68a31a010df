"""Functional forms and plain tensors, against numpy, torchmetrics and the classes."""

import inspect
import math

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics import functional as reference

from mtmsa_lightning import metrics
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.metrics import functional
from mtmsa_lightning.models.distributions import GaussianAge

RANDOM = np.random.default_rng(0)
AGES = torch.from_numpy(RANDOM.integers(0, 80, 200).astype(np.float64))
PREDICTED = AGES + torch.from_numpy(RANDOM.normal(1, 6, 200))
LOW, HIGH = AGES.clone(), AGES.clone()
HIGH[::4] += 7
LOW[::9] = HIGH[::9] = math.nan
DISTRIBUTION = GaussianAge(PREDICTED, torch.from_numpy(RANDOM.uniform(2, 9, 200)))
PROBS = torch.from_numpy(RANDOM.dirichlet(np.ones(4), 200))
TARGET = torch.from_numpy(RANDOM.integers(-1, 4, 200))

OF_PREDICTED_AGES = {
    "age_mae": metrics.AgeMAE(), "age_rmse": metrics.AgeRMSE(), "age_bias": metrics.AgeBias(),
    "cumulative_score": metrics.CumulativeScore(), "cumulative_score_area": metrics.CumulativeScoreArea(),
    "cumulative_score_curve": metrics.CumulativeScoreCurve(),
    "group_accuracy": metrics.GroupAccuracy(), "age_balanced_mae": metrics.AgeBalancedMAE(),
}  # fmt: skip
OF_DISTRIBUTIONS = {
    "age_nll": metrics.AgeNLL(), "age_interval_nll": metrics.AgeIntervalNLL(), "crps": metrics.AgeCRPS(),
    "interval_coverage": metrics.IntervalCoverage(), "interval_width": metrics.IntervalWidth(),
    "ence": metrics.ENCE(), "aurc": metrics.AURC(),
}  # fmt: skip
OF_CLASSES = {
    "class_accuracy": metrics.ClassAccuracy(4), "balanced_accuracy": metrics.BalancedAccuracy(4),
    "class_calibration_error": metrics.ClassCalibrationError(),
}  # fmt: skip


def assert_close(found: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_plain_ages_are_measured_as_torchmetrics_does():
    assert_close(metrics.AgeMAE()(PREDICTED, AGES), reference.mean_absolute_error(PREDICTED, AGES))
    assert_close(functional.age_rmse(PREDICTED, AGES), reference.mean_squared_error(PREDICTED, AGES) ** 0.5)
    assert_close(functional.age_bias(PREDICTED, AGES), (PREDICTED - AGES).mean())
    error = np.abs((PREDICTED - AGES).numpy())
    assert_close(functional.cumulative_score(PREDICTED, AGES, threshold=3), (error <= 3).mean())
    curve = [(error <= n).mean() for n in range(11)]
    assert_close(functional.cumulative_score_curve(PREDICTED, AGES, limit=10), curve)
    cells = (np.digitize(values.numpy(), AGE_GROUP_EDGES, right=True) for values in (PREDICTED, AGES))
    assert_close(functional.group_accuracy(PREDICTED, AGES), np.equal(*cells).mean())


@pytest.mark.parametrize(("name", "metric"), [*(OF_PREDICTED_AGES | OF_DISTRIBUTIONS).items()])
def test_a_function_equals_its_class_for_pairs_and_single_ends(name, metric):
    function = getattr(functional, name)
    expected = metric.clone()(DISTRIBUTION, LOW, HIGH)
    assert_close(function(DISTRIBUTION, LOW, HIGH), expected)
    assert_close(function(DISTRIBUTION, (LOW, HIGH)), expected)
    assert_close(metric.clone()(DISTRIBUTION, (LOW, HIGH)), expected)
    if name in OF_PREDICTED_AGES and name != "group_accuracy":  # a distribution has a cell of its own
        assert_close(function(PREDICTED, (LOW, HIGH)), expected)


@pytest.mark.parametrize(("name", "metric"), [*OF_CLASSES.items()])
def test_a_function_of_classes_equals_its_class(name, metric):
    assert_close(getattr(functional, name)(PROBS, TARGET), metric.clone()(PROBS, TARGET))


@pytest.mark.parametrize(("name", "metric"), [*OF_DISTRIBUTIONS.items()])
def test_a_metric_of_distributions_refuses_plain_ages(name, metric):
    for measure in (metric.clone(), getattr(functional, name)):
        with pytest.raises(TypeError, match=r"needs a predictive distribution of age, such as GaussianAge"):
            measure(PREDICTED, AGES)


def test_a_nan_prediction_is_in_no_group():
    assert_close(functional.group_accuracy(torch.tensor([math.nan, 20.0]), torch.tensor([1.0, 20.0])), 0.5)


EVERY = OF_PREDICTED_AGES | OF_DISTRIBUTIONS | OF_CLASSES


@pytest.mark.parametrize(("name", "metric"), [*EVERY.items()])
def test_labels_are_the_argument_target(name, metric):
    classes = {"probs": PROBS, "target": TARGET}
    inputs = classes if name in OF_CLASSES else {"preds": DISTRIBUTION, "target": LOW, "high": HIGH}
    assert_close(getattr(functional, name)(**inputs), metric.clone()(**inputs))


@pytest.mark.parametrize("name", ["age_mae", "age_rmse", "cumulative_score_area", "interval_width", "crps"])
def test_a_function_of_a_differentiable_metric_has_a_gradient(name):
    mean = PREDICTED.clone().requires_grad_()
    getattr(functional, name)(GaussianAge(mean, mean / 9 + 2), AGES).backward()
    assert mean.grad is not None
    assert mean.grad.abs().sum() > 0


def test_wrong_shapes_and_both_forms_of_labels_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\) predictions for \(1,\) labels"):
        functional.age_mae(torch.ones(2), torch.ones(1))
    with pytest.raises(ValueError, match="either as a pair or as two arguments"):
        metrics.AgeMAE()(PREDICTED, (LOW, HIGH), HIGH)


def test_plain_tensors_work_in_a_collection():
    collection = MetricCollection([*(metric.clone() for metric in OF_PREDICTED_AGES.values())])
    for half in (slice(0, 90), slice(90, 200)):
        collection.update(PREDICTED[half], AGES[half])
    assert_close(collection.compute()["AgeMAE"], (PREDICTED - AGES).abs().mean())
    assert_close(collection.compute()["AgeBias"], (PREDICTED - AGES).mean())


@pytest.mark.parametrize(
    "metric", [*(OF_PREDICTED_AGES | OF_DISTRIBUTIONS | {"d": metrics.DecadeMAE(1)}).values()]
)
def test_metrics_have_plots(metric):
    mpl.use("agg")
    metric = metric.clone()
    value = metric(DISTRIBUTION, LOW, HIGH)
    figure, axes = metric.plot()
    assert axes.lines
    mpl.pyplot.close(figure)
    if value.ndim == 0:
        figure, axes = metric.plot([value, value])
        assert axes.get_xlabel() == "Step"
        mpl.pyplot.close(figure)


def test_every_function_of_a_metric_names_its_class():
    for name in OF_PREDICTED_AGES | OF_DISTRIBUTIONS | OF_CLASSES:
        assert "see " in (inspect.getdoc(getattr(functional, name)) or "")
