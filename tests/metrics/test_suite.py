from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mtmsa_lightning.metrics.suite import METRICS, metric_specs
from mtmsa_lightning.models.distributions import GaussianAge

NAMES = [spec.name for spec in METRICS]
CLASSES = 4
RANKS = (slice(0, 7), slice(7, 8), slice(8, 11), slice(11, 600))
"""Uneven ranks; the second has no labelled face."""


def faces() -> dict[str, tuple[Tensor, ...]]:
    """600 faces with exact ages, groups, and missing labels."""
    random = torch.Generator().manual_seed(0)
    low = torch.randint(0, 60, (600,), generator=random).double()
    low[1::9] = low[7] = torch.nan
    high = low.clone()
    high[::4] += 7
    mean = low.nan_to_num(30) + 6 * torch.randn(600, generator=random)
    std = torch.randint(2, 9, (600,), generator=random).double()
    target = torch.randint(-1, CLASSES - 1, (600,), generator=random)
    target[7] = -1
    probs = torch.rand(600, CLASSES, generator=random, dtype=torch.float64)
    return {"age": (mean, std, low, high), "class": (probs / probs.sum(1, keepdim=True), target)}


def fed(spec, rows: slice) -> Metric:
    metric = spec.build(CLASSES)
    if spec.task == "age":
        mean, std, low, high = (values[rows] for values in faces()["age"])
        metric.update(GaussianAge(mean, std), low, high)
    else:
        metric.update(*(values[rows] for values in faces()["class"]))
    return metric


def gather_of(ranks: list[Metric]) -> Callable[..., list[Tensor]]:
    """Answer as a process group does: every state of all ranks, in the order in which they are asked for."""
    states = iter(list(ranks[0]._defaults))

    def gather(_: Tensor, group: object = None) -> list[Tensor]:
        name = next(states)
        return [dim_zero_cat(getattr(rank, name)) for rank in ranks]

    return gather


@pytest.mark.parametrize("spec", METRICS, ids=NAMES)
def test_uneven_ranks_give_the_metric_of_all_faces(spec):
    ranks = [fed(spec, rows) for rows in RANKS]
    whole = fed(spec, slice(None)).compute()
    assert whole.isfinite()
    assert whole.ndim == 0
    last = ranks[-1]
    last.dist_sync_fn, last.distributed_available_fn = gather_of(ranks), lambda: True
    torch.testing.assert_close(last.compute().double(), whole.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", METRICS, ids=NAMES)
def test_states_can_be_merged(spec):
    first, second = fed(spec, slice(0, 33)), fed(spec, slice(33, None))
    first.merge_state(second)
    torch.testing.assert_close(
        first.compute().double(), fed(spec, slice(None)).compute().double(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "spec",
    [spec for spec in METRICS if not spec.name.endswith("_acc")],
    ids=lambda spec: spec.name,
)
def test_faces_without_a_label_have_no_metric(spec):
    metric = spec.build(CLASSES)
    missing = torch.full((3,), torch.nan)
    if spec.task == "age":
        metric.update(GaussianAge(torch.ones(3), torch.ones(3)), missing, missing)
    else:
        metric.update(torch.full((3, CLASSES), 0.25), torch.full((3,), -1))
    assert metric.compute().isnan()


def test_names_are_unique_and_say_which_way_is_better():
    assert len(set(NAMES)) == len(NAMES)
    for spec in METRICS:
        higher = {"higher": True, "lower": False}.get(spec.better)
        assert spec.build(CLASSES).higher_is_better == higher, spec.name


def test_only_the_headline_is_measured_in_training():
    assert [spec.name for spec in METRICS if spec.training] == [
        "age_mae", "age_cs5", "age_nll", "age_interval_nll", "group_acc", "group_acc_1off",
        "gender_acc", "race_acc",
    ]  # fmt: skip


def test_a_model_has_the_metrics_of_its_heads():
    assert {spec.task for spec in metric_specs({"age": 0}, groups=True)} == {"age"}
    assert not [f.name for f in metric_specs({"age": 0, "race": 5}, groups=False) if "group_acc" in f.name]
    assert metric_specs({"age": 0, "gender": 2, "race": 5}, groups=True) == METRICS
