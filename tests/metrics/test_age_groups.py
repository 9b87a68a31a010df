import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.labels import AGE_GROUP_EDGES, AGE_GROUPS, FAIRFACE_AGE_GROUPS, age_group_index
from mtmsa_lightning.metrics import GroupAccuracy
from mtmsa_lightning.metrics.suite import metric_specs
from mtmsa_lightning.models.distributions import GaussianAge

NAN = math.nan


MIDDLES = torch.tensor([1.0, 5.0, 10.0, 18.0, 29.0, 40.0, 50.0, 70.0])
"""An age inside every group."""


def accuracy(predicted, low, high, offset=0):
    metric = GroupAccuracy(AGE_GROUP_EDGES, offset)
    sure = GaussianAge(MIDDLES[predicted], torch.full((len(predicted),), 0.1))
    metric.update(sure, torch.tensor(low), torch.tensor(high))
    return metric.compute().item()


def test_each_group_lies_in_its_own_cell():
    low, high = (list(map(float, ends)) for ends in zip(*AGE_GROUPS, strict=True))
    assert accuracy(list(range(8)), low, high) == 1


@pytest.mark.parametrize("groups", [FAIRFACE_AGE_GROUPS, ((0, 17), (18, 99))])
def test_other_groups_are_decided_at_the_middles_of_their_gaps(groups):
    low, high = torch.tensor(groups, dtype=torch.float64).T
    exact = next(s for s in metric_specs({"age": 0}, groups) if s.name == "group_acc").build(0)
    one_off = next(s for s in metric_specs({"age": 0}, groups) if s.name == "group_acc_1off").build(0)
    for ends in (low, high):  # both ends of a group belong to its cell
        exact.update(GaussianAge(ends, torch.full_like(low, 0.1)), low, high)
    assert exact.compute() == 1
    one_off.update(GaussianAge(low.flip(0), torch.full_like(low, 0.1)), low, high)
    away = np.abs(np.arange(len(groups)) - np.arange(len(groups))[::-1])
    assert one_off.compute() == pytest.approx((away <= 1).mean())


@pytest.mark.parametrize(("age", "group"), [(3.0, 0), (3.01, 1), (35.0, 4), (36.0, 5), (100.0, 7), (0.0, 0)])
def test_ages_on_an_edge_go_down(age, group):
    assert accuracy([group], [age], [age]) == 1


def test_one_off_forgives_a_neighbour_and_missing_labels_do_not_count():
    predicted, low, high = [4, 5, 6, 0], [25.0, 25.0, 25.0, NAN], [32.0, 32.0, 32.0, NAN]
    assert accuracy(predicted, low, high) == pytest.approx(1 / 3)
    assert accuracy(predicted, low, high, offset=1) == pytest.approx(2 / 3)
    assert math.isnan(accuracy([1], [NAN], [NAN]))


@given(st.lists(st.tuples(st.integers(0, 7), st.floats(0, 120), st.floats(0, 20)), min_size=1))
def test_agrees_with_counting_by_hand(faces):
    predicted, low, width = map(list, zip(*faces, strict=True))
    low, width = np.array(low), np.array(width)
    right = [age_group_index(x) for x in (low + (low + width)) / 2]
    away = np.abs(np.array(predicted) - right)
    for offset in (0, 1):
        assert accuracy(predicted, low, low + width, offset) == pytest.approx((away <= offset).mean())


def test_the_most_probable_cell_is_predicted_not_that_of_the_mean():
    """Wide cells hold more of a wide distribution: of N(23, 10) most lies in 22.5 to 35."""
    wide = GaussianAge(torch.tensor([22.0]), torch.tensor([10.0]))
    assert wide.group_probs(AGE_GROUP_EDGES).argmax() == 4
    metric = GroupAccuracy(AGE_GROUP_EDGES)
    metric.update(wide, torch.tensor([25.0]), torch.tensor([32.0]))
    assert metric.compute() == 1


@pytest.mark.parametrize("edges", [[], [3.0, 3.0], [5.0, 3.0]])
def test_edges_must_increase(edges):
    with pytest.raises(ValueError, match="edges"):
        GroupAccuracy(edges)


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match="offset"):
        GroupAccuracy(AGE_GROUP_EDGES, -1)


@pytest.mark.parametrize("offset", [0, 1])
def test_an_answer_that_is_not_a_number_is_wrong(offset):
    metric = GroupAccuracy(AGE_GROUP_EDGES, offset)
    metric.update(
        GaussianAge(torch.tensor([NAN, 1.0]), torch.tensor([1.0, 0.1])), torch.ones(2), torch.ones(2)
    )
    assert metric.compute() == 0.5
