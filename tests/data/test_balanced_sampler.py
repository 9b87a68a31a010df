"""Weighted sampling is a function of (seed, epoch, position), whatever the number of ranks."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.samplers import TrainSampler

WEIGHTS = st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=50).filter(any)


def keys_of(weights, batch=5, seed=3, ranks=1, rank=0, epoch=0, done=(0, 0)):
    sampler = TrainSampler(range(len(weights)), batch, seed, ranks, rank, done, weights)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(sampler) == len(keys) or done != (0, 0)
    return keys


@given(WEIGHTS, st.integers(0, 100))
def test_every_face_is_used_as_often_as_its_weight_promises(weights, epoch):
    uses = Counter(key.row for key in keys_of(weights, batch=1, epoch=epoch))
    expected = len(weights) * np.array(weights) / np.sum(weights)
    assert sum(uses.values()) == len(weights)
    assert all(abs(uses[row] - often) < 1 + 1e-9 for row, often in enumerate(expected))


def test_uses_are_right_on_average_and_independent_of_each_other():
    """Faces of equal weight next to each other are not chosen together or in turn."""
    weights = np.array([0.4] * 10 + [3.0] * 2)
    used = np.zeros((3000, 12))
    for epoch in range(3000):
        for key in keys_of(weights, batch=1, epoch=epoch):
            used[epoch, key.row] += 1
    expected = 12 * weights / weights.sum()
    np.testing.assert_allclose(used.mean(0), expected, atol=0.05)
    together = np.corrcoef(used[:, :10].T)[np.triu_indices(10, 1)]
    assert np.ptp(together) < 0.2


def test_equal_weights_use_every_face_once_in_random_order():
    keys = keys_of([0.1] * 40, batch=1)
    assert sorted(key.row for key in keys) == list(range(40))
    assert [key.row for key in keys] != list(range(40))
    assert all(key.copy == 0 for key in keys)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("faces", [4, 50])
def test_ranks_together_see_what_one_process_sees(ranks, faces):
    weights = np.random.default_rng(0).exponential(size=faces)
    for epoch in range(3):
        whole = keys_of(weights, 3 * ranks, epoch=epoch)
        parts = [keys_of(weights, 3, ranks=ranks, rank=rank, epoch=epoch) for rank in range(ranks)]
        joined = list(chain(*zip(*parts, strict=True)))
        assert joined[: len(whole)] == whole
        assert all(key.padding for key in joined[len(whole) :])


def test_order_depends_on_seed_and_epoch_alone():
    weights = np.arange(1, 31)
    assert keys_of(weights) == keys_of(weights)
    orders = {tuple(key.row for key in keys_of(weights, seed=s, epoch=e)) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_a_continued_sampler_gives_the_rest_of_its_epoch():
    weights = np.arange(1, 32)
    assert keys_of(weights, epoch=2, done=(2, 3)) == keys_of(weights, epoch=2)[15:]


def test_repeats_of_a_face_are_numbered_in_order():
    keys = keys_of([1.0, 9, 1, 1], batch=1)
    repeats = [key.copy for key in keys if key.row == 1]
    assert len(repeats) >= 3
    assert repeats == list(range(len(repeats)))


@pytest.mark.parametrize("weights", [[1.0, 2], [1, 2, -1], [0, 0, 0], [1, 2, np.nan], [1, 2, np.inf]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be 3 finite numbers"):
        TrainSampler(range(3), 1, 0, weights=weights)
