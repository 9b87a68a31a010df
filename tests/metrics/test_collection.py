"""Every public metric in a ``MetricCollection``, which shares states that it takes for equal."""

import copy
import inspect
import pickle

import pytest
import torch
from torchmetrics import Metric, MetricCollection

from mtmsa_lightning import metrics
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.models.distributions import GaussianAge

CLASSES = 3
ARGUMENTS = {"num_classes": [CLASSES, CLASSES + 1], "groups": [CLASSES, CLASSES + 1]}
"""Values of constructor arguments; others get the first of these for their type."""

OTHER = {float: [0.3, 7.25], int: [1, 12], tuple: [(2.5, 30.5), (2.5, 40.5)]}
"""Values, beside the default, of arguments that have one."""


def settings_of(cls: type[Metric]) -> list[dict]:
    """Return the constructor's arguments: the least that it needs, then each argument changed once."""
    every = inspect.signature(cls).parameters.values()
    parameters = [each for each in every if each.name not in ("settings", "kwargs")]  # both for subclasses
    least = {each.name: ARGUMENTS[each.name][0] for each in parameters if each.default is each.empty}
    changed = [
        {**least, each.name: value}
        for each in parameters
        for value in (ARGUMENTS[each.name][1:] if each.name in least else OTHER[type(each.default)])
        if not (cls.__name__.startswith(("Interval", "VotesCoverage")) and value > 1)
    ]
    return [least, *changed]


AGE, CLASS = "age", "class"
"""Metrics of age, and of classes and losses; labels of both are named ``target``: each has its collection."""


@pytest.fixture(params=[AGE, CLASS])
def kind(request) -> str:
    return request.param


def every_metric(kind: str) -> dict[str, Metric]:
    """Return every public metric of a kind with several settings, and all that a run reports."""
    public = {
        f"{name}-{number}": getattr(metrics, name)(**settings)
        for name in metrics.__all__
        for number, settings in enumerate(settings_of(getattr(metrics, name)))
    }
    every = public | {spec.name: spec.build(CLASSES + 1) for spec in METRICS}
    return {
        name: each
        for name, each in every.items()
        if ("preds" in each._update_signature.parameters) == (kind == AGE)
    }


def batch(kind: str, seed: int, faces: int = 40) -> dict[str, object]:
    """Return random faces; those of seed 0 are all right, so that many metrics have equal values."""
    random = torch.Generator().manual_seed(seed)
    low = torch.randint(1, 60, (faces,), generator=random).double()
    high = low.clone()
    target = torch.randint(0, CLASSES, (faces,), generator=random)
    off = torch.zeros(faces)
    if seed:
        high[::4] += 7
        low[::9] = high[::9] = torch.nan
        target[::5] = -1
        off = 6 * torch.randn(faces, generator=random) + 1
    probs = torch.nn.functional.one_hot(target.clamp(min=0), CLASSES + 1).double()
    if seed:
        probs = (probs + torch.rand(faces, CLASSES + 1, generator=random)).softmax(1)
    if kind == AGE:
        preds = GaussianAge(low.nan_to_num(30) + off, torch.full((faces,), 2.0 + seed))
        return {"preds": preds, "target": low, "high": high, "group": target}
    count = torch.tensor(float(faces))
    return {"probs": probs, "target": target, "loss_sum": off.abs().sum(), "count": count}


BATCHES = {
    kind: [batch(kind, 0, 1), batch(kind, 1), batch(kind, 2, 13), batch(kind, 3)] for kind in (AGE, CLASS)
}


def fed(metric: Metric, batches: list[dict]) -> Metric:
    for each in batches:
        metric.update(**metric._filter_kwargs(**each))
    return metric


def pickle_copy(collection: MetricCollection) -> MetricCollection:
    return pickle.loads(pickle.dumps(collection))


def assert_equal(collection: MetricCollection, alone: dict[str, Metric]) -> None:
    found = collection.compute()
    assert found.keys() == alone.keys()
    for name, metric in alone.items():
        torch.testing.assert_close(
            found[name],
            metric.compute(),
            rtol=0,
            atol=0,
            equal_nan=True,
            msg=f"{name} differs from itself alone",
        )


@pytest.fixture
def collection(kind) -> MetricCollection:
    whole = MetricCollection(every_metric(kind))
    for each in BATCHES[kind]:
        whole.update(**each)
    return whole


def test_a_collection_gives_the_metrics_of_each_metric_alone(kind, collection):
    assert_equal(
        collection, {name: fed(metric, BATCHES[kind]) for name, metric in every_metric(kind).items()}
    )
    shared = [group for group in collection.compute_groups.values() if len(group) > 1]
    assert shared, "equal updates, such as those of both accuracies, may share their states"


@pytest.mark.parametrize("copied", [pickle_copy, MetricCollection.clone, copy.deepcopy])
def test_a_copy_goes_on_where_the_collection_stood(kind, copied):
    whole = MetricCollection(every_metric(kind))
    for each in BATCHES[kind][:2]:
        whole.update(**each)
    again = copied(whole)
    for each in BATCHES[kind][2:]:
        again.update(**each)
    assert_equal(again, {name: fed(metric, BATCHES[kind]) for name, metric in every_metric(kind).items()})
    assert_equal(whole, {name: fed(metric, BATCHES[kind][:2]) for name, metric in every_metric(kind).items()})


def test_after_a_reset_a_collection_starts_again(kind, collection):
    collection.reset()
    for each in BATCHES[kind][1:]:
        collection.update(**each)
    expected = {name: fed(metric, BATCHES[kind][1:]) for name, metric in every_metric(kind).items()}
    assert_equal(collection, expected)


def test_forward_returns_the_metrics_of_the_batch_and_keeps_those_of_all(kind):
    whole = MetricCollection(every_metric(kind))
    for each in BATCHES[kind]:
        found = whole(**each)
        for name, metric in every_metric(kind).items():
            expected = fed(metric, [each]).compute()
            torch.testing.assert_close(
                found[name], expected, rtol=1e-12, atol=1e-12, equal_nan=True, msg=name
            )
    for name, value in whole.compute().items():
        expected = fed(every_metric(kind)[name], BATCHES[kind]).compute()
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9, equal_nan=True, msg=name)


def test_the_states_of_processes_add_up(kind, collection):
    """As a process group does it: every state reduced over the ranks by what it declares."""
    other = MetricCollection(every_metric(kind))
    for each in BATCHES[kind][:3]:
        other.update(**each)
    for name, metric in collection.items():
        metric.merge_state(other[name])
    batches = BATCHES[kind] + BATCHES[kind][:3]
    together = {name: fed(metric, batches) for name, metric in every_metric(kind).items()}
    for name, value in collection.compute().items():
        expected = together[name].compute()
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9, equal_nan=True, msg=name)
