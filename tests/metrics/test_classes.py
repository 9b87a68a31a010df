import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from mtmsa_lightning.metrics import BalancedAccuracy, ClassAccuracy, ClassCalibrationError


def measured(metric, probs, target):
    metric.update(probs, torch.tensor(target))
    return metric.compute().item()


def said(classes, predicted):
    return one_hot(torch.tensor(predicted), classes).double()


faces = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1, max_size=30)


@given(faces)
def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur(pairs):
    predicted, target = map(np.array, zip(*pairs, strict=True))
    recalls = [(predicted[target == c] == c).mean() for c in range(4) if (target == c).any()]
    expected = np.mean(recalls) if recalls else np.nan
    found = measured(BalancedAccuracy(4), said(4, predicted.tolist()), target.tolist())
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_class_that_is_predicted_but_does_not_occur_is_no_recall_of_zero():
    """Why torchmetrics' own macro average is not used."""
    probs, target = said(3, [0, 1, 2]), [0, 1, 1]
    assert measured(BalancedAccuracy(3), probs, target) == pytest.approx((1 + 0.5) / 2)
    assert measured(MulticlassAccuracy(3, average="macro"), probs, target) == pytest.approx((1 + 0.5) / 3)


@given(faces)
def test_accuracy_agrees_with_torchmetrics(pairs):
    predicted, target = map(list, zip(*pairs, strict=True))
    theirs = MulticlassAccuracy(4, average="micro", ignore_index=-1)
    expected = measured(theirs, said(4, predicted), target) if max(target) >= 0 else np.nan
    assert measured(ClassAccuracy(4), said(4, predicted), target) == pytest.approx(expected, nan_ok=True)


def test_metrics_of_batches_are_metrics_of_all_faces():
    random = np.random.default_rng(0)
    probs, target = torch.tensor(random.dirichlet(np.ones(5), 50)), random.integers(-1, 5, 50)
    for metric in (ClassAccuracy(5), BalancedAccuracy(5), ClassCalibrationError()):
        for rows in np.array_split(np.arange(50), [3, 20]):
            metric.update(probs[rows], torch.tensor(target[rows]))
        found = metric.compute().item()
        metric.reset()
        assert found == pytest.approx(measured(metric, probs, target.tolist()))


@given(st.integers(0, 1000), st.integers(1, 60))
def test_calibration_error_agrees_with_torchmetrics(seed, n):
    random = np.random.default_rng(seed)
    probs = torch.tensor(random.dirichlet(np.full(3, 0.7), n))
    target = random.integers(-1, 3, n)
    target[0] = 1
    theirs = MulticlassCalibrationError(3, n_bins=15, ignore_index=-1)
    expected = measured(theirs, probs, target.tolist())
    assert measured(ClassCalibrationError(), probs, target.tolist()) == pytest.approx(
        expected, abs=1e-6
    )  # theirs is float32


def test_the_reliability_diagram_and_its_error_by_hand():
    """Two bins: confidences 0.5 and 0.6 (one right) above the edge, none below; certainty in the last bin."""
    probs = torch.tensor([[0.5, 0.5], [0.4, 0.6], [1.0, 0.0], [0.3, 0.7]], dtype=torch.float64)
    metric = ClassCalibrationError(bins=2)
    assert measured(metric, probs, [1, 1, 0, -1]) == pytest.approx(abs(2 / 3 - (0.5 + 0.6 + 1) / 3))
    diagram = metric.diagram()
    assert diagram.faces.tolist() == [0, 3]
    assert diagram.accuracy[1].item() == pytest.approx(2 / 3)
    assert diagram.confidence[1].item() == pytest.approx(0.7)
    assert diagram.accuracy[0].isnan()


def test_no_label_gives_no_metric():
    for metric in (ClassAccuracy(3), BalancedAccuracy(3), ClassCalibrationError()):
        assert np.isnan(measured(metric, said(3, [0, 1]), [-1, -1]))


def test_an_answer_that_is_not_a_number_is_wrong():
    accuracy = ClassAccuracy(2)
    accuracy.update(torch.tensor([[torch.nan, torch.nan], [0.9, 0.1]]), torch.tensor([0, 0]))
    assert accuracy.compute() == 0.5
