from collections import Counter

import pytest

from mtmsa_lightning.data.mixture.sampling import MixtureSampler, faces_per_epoch
from mtmsa_lightning.data.samplers import TrainSampler


def test_weights_and_caps_give_the_faces_of_an_epoch():
    sizes = {"a": 100, "b": 10, "c": 7, "d": 0, "e": 3}
    used = faces_per_epoch(sizes, {"a": 0.25, "b": 2.5, "e": 0.01}, {"b": 20, "c": 9})
    assert used == {"a": 25, "b": 20, "c": 7, "d": 0, "e": 1}


def keys_of(data, ranks=1, batch=4, epoch=0, done=(0, 0), amounts=None, weights=(None,) * 3):
    """Return the keys of every rank."""
    data.setup("fit")
    amounts = amounts or [len(part) for part in data.train_dataset.parts]
    samplers = [
        MixtureSampler(data.train_dataset, amounts, weights, batch, 5, ranks, rank, done)
        for rank in range(ranks)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [[*sampler] for sampler in samplers]


@pytest.mark.parametrize(("size", "amount"), [(19, 19), (19, 3), (19, 44), (19, 38)])
def test_all_faces_of_a_source_are_used_equally_often_but_for_the_rest(mixture, size, amount):
    (keys,) = keys_of(mixture("exact"), batch=1, amounts=[amount], weights=[None])
    times = Counter(key.row for key in keys)
    assert len(keys) == amount
    assert all(amount // size <= times[row] <= -(-amount // size) for row in range(size))
    for row in times:
        assert sorted(key.copy for key in keys if key.row == row) == [*range(times[row])]


def test_a_source_may_weight_its_own_faces(mixture):
    (keys,) = keys_of(mixture("exact"), batch=1, amounts=[30], weights=[[1.0] * 9 + [2.0] * 3 + [0.0] * 7])
    times = Counter(key.row for key in keys)
    assert [times[row] for row in range(19)] == [2] * 9 + [4] * 3 + [0] * 7


def test_without_weights_the_order_is_that_of_one_dataset(mixture):
    data = mixture()
    (keys,) = keys_of(data)
    assert keys == [*TrainSampler(data.train_dataset, 4, 5)]


def test_an_epoch_has_the_asked_faces_of_each_source_drawn_again_by_epoch(mixture):
    data = mixture()
    (first,), (again,), (later,) = (keys_of(data, epoch=e, amounts=[38, 7, 11]) for e in (0, 0, 1))
    assert first == again, "a function of (seed, epoch)"
    of_source = [Counter(data.train_dataset.source[key.row] for key in keys) for keys in (first, later)]
    assert of_source == [{0: 38, 1: 7, 2: 11}] * 2
    assert len({(key.row, key.copy) for key in first}) == len(first)
    capped = [{key.row for key in keys if data.train_dataset.source[key.row] == 1} for keys in (first, later)]
    assert capped[0] != capped[1]


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batches_of_one_process(mixture, ranks):
    amounts = [38, 7, 11]
    (alone,) = keys_of(mixture(), batch=4, amounts=amounts)
    shared = keys_of(mixture(), ranks, 4 // ranks, amounts=amounts)
    assert [key for step in zip(*shared, strict=True) for key in step] == alone


def test_a_continued_epoch_goes_on_where_it_stopped(mixture):
    (whole,), (rest,) = (keys_of(mixture(), done=done, amounts=[38, 7, 11]) for done in ((0, 0), (0, 3)))
    assert rest == whole[12:]


def test_a_repeated_face_is_augmented_differently_and_the_first_time_as_ever(mixture):
    data = mixture()
    data.setup("fit")
    keys = [next(key for key in keys_of(data, amounts=[38, 7, 11])[0] if key.copy == r) for r in (0, 1)]
    once, twice = (data.train_dataset[key._replace(row=3)]["image"] for key in keys)
    assert (once != twice).any()
    assert (data.train_dataset[keys[1]._replace(row=3)]["image"] == twice).all()
    assert (data.train_dataset[3]["image"] == once).all()
