"""A sample is a function of (seed, epoch, index): whatever the workers, the ranks and the history."""

import pickle
from collections.abc import Callable
from itertools import chain

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.data.dataloader import face_loader
from mtmsa_lightning.data.face_dataset import FaceBatch, FaceDataset, SampleKey, collate
from mtmsa_lightning.data.samplers import EvalSampler, TrainSampler

N = 13
SEED = 9

# Workers are more than the cores of a small machine; from Python 3.12 on a fork beside threads warns.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for index in range(N):
        coarse = rng.integers(0, 256, (8, 7, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (70, 80), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(root / f"{index:05d}.jpg"), picture)
    return root


@pytest.fixture
def make_dataset(folder, face_table) -> Callable[..., FaceDataset]:
    def make(n: int = N, augment: bool = True, seed: int = SEED) -> FaceDataset:
        table = face_table(n, gender=np.arange(n) % 2, race=np.arange(n) % 6)
        return FaceDataset(table.frame, folder, FaceTransform(64, 0.9, augment), seed)

    return make


def train_epoch(
    dataset: FaceDataset, epoch: int = 0, batch_size: int = 4, workers: int = 0, ranks: int = 1, rank: int = 0
) -> list[FaceBatch]:
    sampler = TrainSampler(dataset, batch_size, SEED, ranks, rank)
    sampler.set_epoch(epoch)
    return list(face_loader(dataset, sampler, batch_size, workers))


def assert_equal_batches(actual: list[FaceBatch], expected: list[FaceBatch]) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        for name, value in other.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(one[name], value, rtol=0, atol=0, equal_nan=True)
            else:
                assert one[name] == value


# ------------------------------------------------------------------ samples


def test_a_sample_holds_the_rows_labels_and_its_augmented_image(make_dataset, folder):
    dataset = make_dataset()
    sample = dataset[SampleKey(row=5, epoch=3)]
    image = FaceTransform(64, 0.9, augment=True)(read_image(folder / "00005.jpg"), sample_seed(SEED, 3, 5))
    np.testing.assert_array_equal(sample.pop("image"), image)
    assert sample == {
        "age_low": 25.0, "age_high": 25.0, "gender": 1, "race": 5,
        "id": "made/00005.jpg", "index": 5, "valid": True, "error": "", "augmentation": None,
    }  # fmt: skip


def test_a_bare_index_is_epoch_zero(make_dataset):
    dataset = make_dataset()
    np.testing.assert_array_equal(dataset[4]["image"], dataset[SampleKey(4, 0)]["image"])
    np.testing.assert_array_equal(dataset.image_of(dataset.table["id"][4]), dataset[4]["image"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((SEED, SampleKey(4, 0)), (SEED, SampleKey(4, 1))),
        ((SEED, SampleKey(4, 0)), (SEED + 1, SampleKey(4, 0))),
        ((SEED, SampleKey(4, 0)), (SEED, SampleKey(4, 0, copy=1))),
    ],
)
def test_augmentation_differs_by_epoch_and_seed_and_use(make_dataset, first, second):
    images = [make_dataset(seed=seed)[key]["image"] for seed, key in (first, second)]
    assert not np.array_equal(*images)


def test_equal_photos_in_two_rows_are_augmented_differently(folder, face_table):
    frame = face_table(2).frame.assign(path="00000.jpg")
    dataset = FaceDataset(frame, folder, FaceTransform(64, augment=True))
    assert not np.array_equal(dataset[0]["image"], dataset[1]["image"])


def test_evaluation_is_the_same_in_every_epoch(make_dataset):
    dataset = make_dataset(augment=False)
    np.testing.assert_array_equal(dataset[SampleKey(4, 0)]["image"], dataset[SampleKey(4, 9)]["image"])


def test_rows_are_addressed_by_position(folder, face_table):
    frame = face_table(N).frame.iloc[[7, 2]]
    dataset = FaceDataset(frame, folder, FaceTransform(64))
    assert [dataset[row]["id"] for row in range(2)] == ["made/00007.jpg", "made/00002.jpg"]
    assert dataset.path(1) == folder / "00002.jpg"
    assert [dataset[row]["age_low"] for row in range(2)] == [27, 22]


def test_a_batch_has_the_promised_types(folder, face_table):
    ages = {"age_low": [8, np.nan, 30.0], "age_high": [12, np.nan, 30.0]}
    table = face_table(3, gender=[1, -1, 0], race=[-1, 4, -1], **ages)
    dataset = FaceDataset(table.frame, folder, FaceTransform(64))
    batch = collate([dataset[row] for row in range(3)])
    assert (batch["image"].shape, batch["image"].dtype) == ((3, 3, 64, 64), torch.uint8)
    expected = {
        "age_low": torch.tensor([8, torch.nan, 30], dtype=torch.float64),
        "age_high": torch.tensor([12, torch.nan, 30], dtype=torch.float64),
        "gender": torch.tensor([1, -1, 0]),
        "race": torch.tensor([-1, 4, -1]),
        "index": torch.tensor([0, 1, 2]),
        "valid": torch.tensor([True, True, True]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(batch[name], value, rtol=0, atol=0, equal_nan=True)
    assert batch["id"] == ["made/00000.jpg", "made/00001.jpg", "made/00002.jpg"]


def test_an_unreadable_image_is_grey_uncounted_and_explained(folder, face_table):
    (folder / "broken.jpg").write_text("no image")
    frame = face_table(3, gender=[1, 1, 1], race=[2, 2, 2]).frame
    frame["path"] = ["00000.jpg", "broken.jpg", "gone.jpg"]
    dataset = FaceDataset(frame, folder, FaceTransform(64, augment=True))
    batch = collate([dataset[row] for row in range(3)])
    assert (batch["image"][1:] == 127).all()
    assert batch["valid"].tolist() == [True, False, False]
    assert batch["error"][0] == ""
    assert str(folder / "broken.jpg") in batch["error"][1]
    assert str(folder / "gone.jpg") in batch["error"][2]
    assert_labels_hidden(batch, [False, True, True])


def assert_labels_hidden(batch: FaceBatch, hidden: list[bool]) -> None:
    assert batch["age_low"].isnan().tolist() == batch["age_high"].isnan().tolist() == hidden
    assert (batch["gender"] == -1).tolist() == (batch["race"] == -1).tolist() == hidden


def test_a_pickled_dataset_returns_the_same_samples(make_dataset):
    dataset = make_dataset()
    copy = pickle.loads(pickle.dumps(dataset))
    assert_equal_batches(train_epoch(copy), train_epoch(dataset))


# ------------------------------------------------------------------ workers, ranks, epochs


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_do_not_depend_on_the_workers(make_dataset, workers):
    assert_equal_batches(train_epoch(make_dataset(), workers=workers), train_epoch(make_dataset()))


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_what_one_process_sees_in_batches_of_twice_the_size(make_dataset, workers):
    dataset = make_dataset()
    for epoch in range(2):
        whole = train_epoch(dataset, epoch, batch_size=6)
        ranks = [train_epoch(dataset, epoch, 3, workers, ranks=2, rank=rank) for rank in range(2)]
        assert [len(batches) for batches in ranks] == [len(whole)] * 2 == [2, 2]
        for joined, first, second in zip(whole, *ranks, strict=True):
            for name in ("image", "age_low", "age_high", "gender", "race", "index", "valid"):
                pair = torch.stack([first[name], second[name]], dim=1).flatten(0, 1)
                assert torch.equal(pair, joined[name])
            assert list(chain(*zip(first["id"], second["id"], strict=True))) == joined["id"]


def test_living_workers_learn_the_epoch_and_a_second_epoch_differs(make_dataset):
    dataset = make_dataset()
    sampler = TrainSampler(dataset, 4, SEED)
    loader = face_loader(dataset, sampler, 4, num_workers=2)
    assert loader.persistent_workers
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(loader))
    for epoch, batches in enumerate(epochs):
        assert_equal_batches(batches, train_epoch(make_dataset(), epoch))
    orders = [torch.cat([batch["index"] for batch in batches]).tolist() for batches in epochs]
    assert len({tuple(order) for order in orders}) == 3
    assert pixels(epochs[0]).isdisjoint(pixels(epochs[1]))


def pixels(batches: list[FaceBatch]) -> set[bytes]:
    return {image.numpy().tobytes() for batch in batches for image in batch["image"]}


@pytest.mark.slow
def test_a_fresh_interpreter_starts_at_any_epoch(warm_python, make_dataset):
    """As after a resumed run: the worker is spawned, so it shares no memory with this process."""
    dataset = make_dataset()
    train_epoch(dataset)
    sampler = TrainSampler(dataset, 4, SEED)
    sampler.set_epoch(1)
    fresh = DataLoader(
        dataset, 4, sampler=sampler, num_workers=1, collate_fn=collate, multiprocessing_context="spawn"
    )
    assert_equal_batches(list(fresh), train_epoch(dataset, epoch=1))


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 5, 13])
def test_evaluation_counts_every_face_once(make_dataset, n, ranks):
    dataset = make_dataset(n, augment=False)
    loaders = [face_loader(dataset, EvalSampler(dataset, ranks, rank), 2, 0) for rank in range(ranks)]
    parts = [list(loader) for loader in loaders]
    assert len({len(part) for part in parts}) == 1
    batches = list(chain(*parts))
    counted = [
        (int(index), float(low))
        for batch in batches
        for index, low, counts in zip(batch["index"], batch["age_low"], batch["valid"], strict=True)
        if counts
    ]
    assert sorted(counted) == [(row, 20.0 + row) for row in range(n)]
    for batch in batches:
        assert_labels_hidden(batch, (~batch["valid"]).tolist())
    assert sum(len(batch["id"]) for batch in batches) == -(-n // ranks) * ranks


# ------------------------------------------------------------------ samplers


def shard_indices(
    make: Callable[[int], DistributedSampler[SampleKey]], ranks: int, epoch: int
) -> list[list[SampleKey]]:
    samplers = [make(rank) for rank in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    keys = [list(sampler) for sampler in samplers]
    assert [len(part) for part in keys] == [len(sampler) for sampler in samplers]
    return keys


@given(n=st.integers(0, 70), ranks=st.integers(1, 5))
@example(n=2, ranks=5)
def test_eval_sampler_arithmetic(n, ranks):
    parts = shard_indices(lambda rank: EvalSampler(range(n), ranks, rank), ranks, epoch=4)
    assert {len(part) for part in parts} == {-(-n // ranks)}
    order = list(chain(*zip(*parts, strict=True)))
    assert [key.row for key in order if not key.padding] == list(range(n))
    assert not any(key.padding for key in order[:n])
    assert all(0 <= key.row < n and key.epoch == 0 for key in order)


@given(n=st.integers(0, 70), batch=st.integers(1, 9), ranks=st.integers(1, 4), epoch=st.integers(0, 300))
@example(n=1, batch=4, ranks=4, epoch=0)
@example(n=16, batch=4, ranks=4, epoch=0)
def test_train_sampler_arithmetic(n, batch, ranks, epoch):
    parts = shard_indices(lambda rank: TrainSampler(range(n), batch, SEED, ranks, rank), ranks, epoch)
    (single,) = shard_indices(lambda rank: TrainSampler(range(n), batch * ranks, SEED), 1, epoch)
    joined = batch * ranks
    assert len(single) == (n - n % joined if n >= joined else n)
    assert len({key.row for key in single}) == len(single)
    assert all(0 <= key.row < n and key.epoch == epoch and not key.padding for key in single)
    order = list(chain(*zip(*parts, strict=True)))
    assert order[: len(single)] == single
    assert all(key.padding for key in order[len(single) :])
    assert len(order) - len(single) == (0 if n >= joined else -n % ranks)


@pytest.mark.parametrize("done", [(0, 0), (0, 2), (3, 0), (3, 1)])
def test_a_continued_sampler_gives_the_rest_of_its_epoch_and_all_of_the_next(done):
    epoch, batches = done
    for rank in (0, 1):
        whole, continued = (TrainSampler(range(31), 5, SEED, 2, rank, take) for take in ((0, 0), done))
        whole.set_epoch(epoch)
        assert list(continued) == list(whole)[5 * batches :], "even before Lightning tells it the epoch"
        for sampler in (whole, continued):
            sampler.set_epoch(epoch + 1)
        assert list(continued) == list(whole)
        assert len(continued) == len(whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_continued_loader_begins_at_once_with_the_right_batch(make_dataset, workers):
    """A worker is given its first keys when the loader is iterated, before Lightning sets the epoch."""
    dataset = make_dataset()
    sampler = TrainSampler(dataset, 4, SEED, done=(1, 1))
    assert_equal_batches(list(face_loader(dataset, sampler, 4, workers)), train_epoch(dataset, epoch=1)[1:])


def test_every_epoch_leaves_out_other_faces():
    skipped = set()
    for epoch in range(60):
        (keys,) = shard_indices(lambda rank: TrainSampler(range(N), 4, SEED), 1, epoch)
        skipped |= set(range(N)) - {key.row for key in keys}
    assert skipped == set(range(N))


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        torch.rand(1)
        (keys,) = shard_indices(lambda rank: TrainSampler(range(50), 5, seed), 1, epoch)
        return [key.row for key in keys]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_lightning_keeps_the_samplers():
    """Under DDP it replaces every sampler that is no DistributedSampler."""
    assert issubclass(TrainSampler, DistributedSampler)
    assert issubclass(EvalSampler, DistributedSampler)
