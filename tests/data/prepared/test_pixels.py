"""The memory-mapped faces of a prepared set are those of its image files, or none at all."""

import json
import logging
import multiprocessing
import pickle
import shutil
import signal
import subprocess
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.data.prepared.pixels import PIXELS, open_pixels, write_pixels
from mtmsa_lightning.errors import DataError

N = 41  # more than the rows that enter the fingerprint
SIZE = 24


def write_crops(root: Path, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    (root / "crops").mkdir(parents=True, exist_ok=True)
    paths = [f"crops/{index:03d}.jpg" for index in range(N)]
    for path in paths:
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        assert cv2.imwrite(str(root / path), cv2.resize(coarse, (SIZE, SIZE)))
    return paths


def write_set(root: Path, seed: int = 0, pixels: bool = True) -> Path:
    paths = write_crops(root, seed)
    pd.DataFrame({"path": paths}).to_parquet(root / "faces.parquet")
    record = {
        "format_version": 1, "dataset": "made", "label_rule": "", "race_classes": [],
        "table": "faces.parquet",
    }  # fmt: skip
    if pixels:
        record["pixels"] = write_pixels(root, paths, SIZE)
    (root / "dataset.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def prepared(shared, tmp_path):
    """A copy of its own for tests that damage it."""
    return shutil.copytree(shared, tmp_path / "prepared")


# ------------------------------------------------------------------ writing


def test_numpy_alone_reads_what_the_files_hold(shared):
    array = np.load(shared / PIXELS, mmap_mode="r")
    assert (array.shape, array.dtype) == ((N, SIZE, SIZE, 3), np.uint8)
    for row, path in enumerate(pd.read_parquet(shared / "faces.parquet")["path"]):
        np.testing.assert_array_equal(array[row], read_image(shared / path))


def test_the_entry_is_plain_and_describes_the_array(shared):
    entry = json.loads((shared / "dataset.json").read_text())["pixels"]
    assert {**entry, "fingerprint": ""} == {
        "file": "pixels.npy", "shape": [N, SIZE, SIZE, 3], "dtype": "uint8", "fingerprint": "",
    }  # fmt: skip
    assert len(entry["fingerprint"]) == 64


def test_writing_again_gives_the_same_bytes(prepared):
    before = (prepared / PIXELS).read_bytes()
    entry = write_pixels(prepared, pd.read_parquet(prepared / "faces.parquet")["path"].tolist(), SIZE)
    assert entry == json.loads((prepared / "dataset.json").read_text())["pixels"]
    assert (prepared / PIXELS).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("crops/007.jpg", lambda file: file.write_text("no image"), "not an image"),
        ("crops/007.jpg", lambda file: file.unlink(), "cannot be read"),
        (
            "crops/007.jpg",
            lambda file: cv2.imwrite(str(file), np.zeros((9, 24, 3), np.uint8)),
            "24 x 9 pixels, not 24 x 24",
        ),
    ],
)
def test_a_bad_crop_is_named_and_the_old_array_stays(prepared, name, damage, message):
    before = (prepared / PIXELS).read_bytes()
    damage(prepared / name)
    with pytest.raises(DataError, match=f"{name}: {message}"):
        write_pixels(prepared, [f"crops/{index:03d}.jpg" for index in range(N)], SIZE)
    assert (prepared / PIXELS).read_bytes() == before
    assert not list(prepared.glob(".pixels*"))


def test_no_faces_and_no_room_are_said_before_anything_is_written(prepared, monkeypatch):
    with pytest.raises(DataError, match="no face"):
        write_pixels(prepared, [], SIZE)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**9))
    with pytest.raises(DataError, match=r"needs 10\.8 GB and 1\.0 GB are free"):
        write_pixels(prepared, ["crops/000.jpg"] * 55_134, 256)
    assert not list(prepared.glob(".pixels*"))


KILLED = """
import os, signal, sys
from pathlib import Path
import mtmsa_lightning.data.prepared.pixels as pixels
read = pixels.read_image
def read_or_die(path):
    if path.name == "030.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
pixels.read_image = read_or_die
pixels._CHUNK = 4
root = Path(sys.argv[1])
pixels.write_pixels(root, [f"crops/{index:03d}.jpg" for index in range(41)], 24)
"""


def test_a_killed_write_is_never_taken_for_whole(warm_python, tmp_path):
    root = write_set(tmp_path, pixels=False)
    killed = subprocess.run([warm_python, "-c", KILLED, str(root)])
    assert killed.returncode == -signal.SIGKILL
    assert not (root / PIXELS).exists()
    assert open_pixels(root) is None
    write_set(root)
    assert open_pixels(root).array.shape[0] == N
    assert not list(root.glob(".pixels*"))


# ------------------------------------------------------------------ reading


def test_rows_are_found_by_path(shared):
    store = open_pixels(shared)
    assert store.size == SIZE
    for path in ("crops/040.jpg", "crops/003.jpg"):
        np.testing.assert_array_equal(store.array[store.rows[path]], read_image(shared / path))
    assert not store.array.flags.writeable


def test_a_set_without_pixels_has_no_store(tmp_path):
    assert open_pixels(write_set(tmp_path, pixels=False)) is None


def test_an_array_that_the_description_does_not_know_is_ignored(prepared):
    """As after a kill between the array and the description that would have vouched for it."""
    record = json.loads((prepared / "dataset.json").read_text())
    del record["pixels"]
    (prepared / "dataset.json").write_text(json.dumps(record))
    assert open_pixels(prepared) is None


def test_a_missing_array_is_reported_and_the_files_are_used(prepared, caplog):
    (prepared / PIXELS).unlink()
    with caplog.at_level(logging.WARNING):
        assert open_pixels(prepared) is None
    assert "pixels.npy is missing: the image files are read instead" in caplog.text


def other_rows(root: Path) -> None:
    table = pd.read_parquet(root / "faces.parquet")
    table.iloc[::-1].to_parquet(root / "faces.parquet")


def fewer_rows(root: Path) -> None:
    pd.read_parquet(root / "faces.parquet").iloc[1:].to_parquet(root / "faces.parquet")


def other_faces(root: Path) -> None:
    """An array of the same shape and paths from other crops."""
    write_crops(root, seed=1)
    write_pixels(root, [f"crops/{index:03d}.jpg" for index in range(N)], SIZE)


def cut_short(root: Path) -> None:
    content = (root / PIXELS).read_bytes()
    (root / PIXELS).write_bytes(content[:-1])


def other_type(root: Path) -> None:
    np.save(root / PIXELS, np.load(root / PIXELS).astype(np.uint16))


def other_shape(root: Path) -> None:
    np.save(root / PIXELS, np.load(root / PIXELS)[:, 1:])


def pickled(root: Path) -> None:
    np.save(root / PIXELS, np.array([{"a": 1}], dtype=object))


def no_array(root: Path) -> None:
    (root / PIXELS).write_text("no array")


def empty(root: Path) -> None:
    (root / PIXELS).write_bytes(b"")


def odd_entry(root: Path) -> None:
    record = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(record | {"pixels": True}))


@pytest.mark.parametrize(
    "damage",
    [
        other_rows, fewer_rows, other_faces, cut_short, other_type, other_shape, pickled, no_array, empty,
        odd_entry,
    ],
)  # fmt: skip
def test_an_array_of_other_faces_is_refused(prepared, damage):
    damage(prepared)
    with pytest.raises(DataError, match=r"pixels\.npy: .*(mtmsa prepare.* again|delete the file)"):
        open_pixels(prepared)


# ------------------------------------------------------------------ processes


def test_a_pickled_store_holds_no_pixels(shared):
    store = open_pixels(shared)
    store.array.sum()
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 4_000
    assert "array" not in vars(copy)
    np.testing.assert_array_equal(copy.array, store.array)


def mapping_of(file: Path, smaps: str) -> dict[str, str]:
    """Return the entry of a file in /proc/<pid>/smaps: permissions, and sizes in kB by name."""
    lines = iter(smaps.splitlines())
    first = next(line for line in lines if line.endswith(str(file)))
    entry = {"permissions": first.split()[1]}
    for line in lines:
        name, _, value = line.partition(":")
        if " " in name:
            break
        entry[name] = value.strip()
    return entry


def touch_and_describe(store, queue) -> None:
    total = int(store.array.sum())
    queue.put((total, mapping_of(store.file, Path("/proc/self/smaps").read_text())))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux describes mappings")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_share_the_pages_of_the_file(shared):
    """The mapping is read-only and shared, and no page of it is a process's own."""
    store = open_pixels(shared)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=touch_and_describe, args=(store, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    for total, mapping in answers:
        assert total == int(store.array.sum())
        assert mapping["permissions"] == "r--s"
        assert mapping["Private_Dirty"] == mapping["Anonymous"] == "0 kB"
