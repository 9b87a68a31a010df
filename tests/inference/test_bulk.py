"""The loop over parts, with a network that only counts: what is read ahead, and what stays in memory."""

import threading
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtmsa_lightning.inference import bulk
from mtmsa_lightning.inference.bulk import Job, predict_parts
from mtmsa_lightning.inference.face import FaceCrop
from mtmsa_lightning.inference.inputs import Inputs, Photos
from mtmsa_lightning.inference.prediction_parts import Parts, join

SIDE = 32


class CountingEstimator:
    """Finds as many faces in photo k as k modulo 4; notes how many photos were read before each batch."""

    batch_size = 16
    model = SimpleNamespace(trained_classes={})

    def __init__(self) -> None:
        self.read = self.done = self.most_ahead = 0
        self.batches: list[int] = []
        self.lock = threading.Lock()

    def crops(self, photo: str, detect: bool) -> list[FaceCrop]:
        assert detect
        number = int(photo)
        with self.lock:
            self.read += 1
        time.sleep(number % 3 * 1e-5)  # threads finish in any order
        image = np.full((SIDE, SIDE, 3), number % 256, np.uint8)
        return [
            FaceCrop(image, np.zeros((2, 3)), (number, face, 0, 0), None, 0.5) for face in range(number % 4)
        ]

    def output(self, crops: list[FaceCrop]) -> list[FaceCrop]:
        self.most_ahead = max(self.most_ahead, self.read - self.done)
        self.batches.append(len(crops))
        return crops


@pytest.fixture
def columns(monkeypatch):
    monkeypatch.setattr(
        bulk,
        "prediction_columns",
        lambda _, crops: {"pixel": torch.tensor([int(crop.image[0, 0, 0]) for crop in crops])},
    )


def run(folder, images: int, workers: int = 3, numbers=None) -> CountingEstimator:
    folder.mkdir()
    plan = {"inputs": {"images": images}, "part_size": 64, "shard": None}
    parts = Parts(folder, plan)
    estimator = CountingEstimator()

    def advance(n: int) -> None:
        estimator.done += n

    job = Job(Inputs([Photos(list(map(str, range(images))))]), parts, True, None, workers)
    predict_parts(estimator, job, parts.numbers if numbers is None else numbers, advance)
    assert estimator.done == (images if numbers is None else sum(len(parts.positions(n)) for n in numbers))
    return estimator


def test_each_face_once_in_order_with_its_own_answer(tmp_path, columns):
    images = 203  # three parts and a bit
    run(tmp_path / "parts", images)
    plan = {"inputs": {"images": images}, "part_size": 64, "shard": None}
    parts = Parts(tmp_path / "parts", plan)
    rows = np.concatenate(
        [parts.read(number)[["file", "face", "pixel"]].to_numpy() for number in parts.numbers]
    )
    expected = [[str(n), face, n % 256] for n in range(images) for face in range(n % 4)]
    assert rows.tolist() == expected
    counts = join(plan, [parts.file(number) for number in parts.numbers], tmp_path / "a.csv")
    assert counts == (len(expected), images, len(range(0, images, 4)), 0, 0)


def test_batches_are_full_but_the_last_of_a_part_and_know_no_other_part(tmp_path, columns):
    faces = [sum(n % 4 for n in range(start, min(start + 64, 203))) for start in range(0, 203, 64)]
    batches = [size for part in faces for size in (*[16] * (part // 16), part % 16) if size]
    assert run(tmp_path / "all", 203).batches == batches
    run(tmp_path / "some", 203, numbers=[2])
    assert (tmp_path / "some" / "0000002.parquet").read_bytes() == (
        tmp_path / "all" / "0000002.parquet"
    ).read_bytes()


@pytest.mark.parametrize("workers", [1, 4])
def test_reading_runs_ahead_of_the_network_but_not_far(tmp_path, columns, workers):
    few, many = (run(tmp_path / str(images), images, workers).most_ahead for images in (256, 2048))
    chunks = 2 * CountingEstimator.batch_size // bulk._CHUNK + 2 * workers + 1
    assert 0 < max(few, many) <= chunks * bulk._CHUNK  # a busy machine reads hardly faster


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, columns):
    """Ten times as many images, of which all crops would take ten megabytes more."""
    run(tmp_path / "first", 64)  # whatever is imported or cached once
    peaks = []
    for images in (512, 5120):
        tracemalloc.start()
        run(tmp_path / str(images), images)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    names = 5120 * 100  # what stays of an image is its name
    assert peaks[1] - peaks[0] < names
    assert 20 * names < 5120 * 1.5 * SIDE * SIDE * 3


def test_an_error_in_a_thread_reaches_the_caller(tmp_path, columns, monkeypatch):
    def fail(self, photo, detect):
        raise RuntimeError(f"no detector for {photo}")

    monkeypatch.setattr(CountingEstimator, "crops", fail)
    with pytest.raises(RuntimeError, match="no detector for 0"):
        run(tmp_path / "parts", 300)
    assert not torch.is_inference_mode_enabled()
