"""``mtmsa prepare`` killed at any moment and started again ends with the bytes of an uninterrupted run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning.align.crop_files import CropSettings
from mtmsa_lightning.data.face_table import FaceTable, ReadReport, make_frame
from mtmsa_lightning.data.prepared import making as preparation
from mtmsa_lightning.data.prepared.format import read_prepared
from mtmsa_lightning.data.prepared.making import PrepareOptions, crop_names, prepare
from mtmsa_lightning.data.release_files import list_images
from mtmsa_lightning.errors import DataError

OPTIONS = PrepareOptions("folder", CropSettings(64, 0.25, False, None, True))
IMAGES = 150  # three parts

SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.cli.commands.test_prepare_killed import OPTIONS, read_release
from mtmsa_lightning.data.prepared import making as preparation

fatal, calls = int(sys.argv[3]), 0

def dying(method):
    def call(self, *args, **kwargs):
        global calls
        calls += 1
        if calls == fatal:
            if method.__name__ == "write_bytes":
                method(self, args[0][: len(args[0]) // 2])  # a write that got half-way
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *args, **kwargs)
    return call

for name in ("write_bytes", "replace", "unlink"):
    setattr(Path, name, dying(getattr(Path, name)))
release = Path(sys.argv[1])
preparation.prepare(OPTIONS, lambda _: read_release(release), Path(sys.argv[2]), workers=int(sys.argv[4]))
print("done after", calls, "calls")
"""


def read_release(root: Path) -> FaceTable:
    """The images below a folder; without the readers' torch, so that a process starts quickly."""
    paths = list(list_images(root))
    frame = make_frame(
        pd.DataFrame({"id": paths, "path": paths, "age_low": 30.0, "age_high": 30.0}), "folder"
    )
    return FaceTable(frame, root, "folder", "none", (), ReadReport(str(root), read=len(frame)))


def contents(root: Path) -> dict[str, bytes]:
    """All bytes of a set but those of its lock, which names who held it last."""
    files = [file for file in root.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("release")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        assert cv2.imwrite(str(root / f"{number:03d}.png"), rng.integers(0, 256, (70, 60, 3), dtype=np.uint8))
    return root


@pytest.fixture(scope="module")
def whole(release, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "set"
    prepare(OPTIONS, lambda _: read_release(release), out)
    return contents(out)


def start(
    release: Path, out: Path, fatal: int = 0, workers: int = 1, python: str = sys.executable
) -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [python, "-c", SCRIPT, str(release), str(out), str(fatal), str(workers)],
        cwd=root, env={**os.environ, "PYTHONPATH": path}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_again_and_again_at_random_steps(warm_python, release, whole, tmp_path, seed):
    """Each run dies at a random one of its writes, renamings and removals, half-way through where it can."""
    rng = np.random.default_rng(seed)
    out = tmp_path / "set"
    for fatal in rng.integers(1, 160, 4):
        process = start(release, out, int(fatal), python=warm_python)
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        with pytest.raises(DataError, match="cannot be read"):
            read_prepared(out, "folder")  # not taken for whole
    prepare(OPTIONS, lambda _: read_release(release), out)
    assert contents(out) == whole


@pytest.mark.slow
def test_killed_among_the_last_steps(warm_python, release, whole, tmp_path):
    """All crops are there; what is left are the table, the list, the pixels and the description."""
    out = tmp_path / "set"
    process = start(release, tmp_path / "once", python=warm_python)
    printed, _ = process.communicate(timeout=120)
    calls = int(printed.split()[-2])
    for fatal in (calls - 4, 6, 5):
        process = start(release, out, fatal, python=warm_python)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
    prepare(OPTIONS, lambda _: read_release(release), out)
    assert contents(out) == whole


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them_and_two_make_the_same_set(release, whole, tmp_path):
    out = tmp_path / "set"
    process = start(release, out, workers=2)
    crops = out / "crops"
    while process.poll() is None and not crops.is_dir():
        time.sleep(0.01)
    children = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
    pids = [line.split()[0] for line in children.splitlines() if line.split()[1] == str(process.pid)]
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while alive := [pid for pid in pids if running(pid)]:
        assert time.monotonic() < deadline, f"processes {alive} outlive their parent"
        time.sleep(0.05)
    process = start(release, out, workers=2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert contents(out) == whole


def running(pid: str) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def interrupted(release: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a run after two of its three parts."""
    write, written = preparation._write_part, []

    def stop(*args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(args)
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_write_part", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(OPTIONS, lambda _: read_release(release), out)


def test_a_run_goes_on_with_what_is_left(release, whole, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "mtmsa_lightning")
    interrupted(release, tmp_path, monkeypatch)
    prepare(OPTIONS, lambda _: read_release(release), tmp_path)
    assert "128 of 150 faces are done" in caplog.text
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("damage", ["cut", "gone", "part", "empty part"])
def test_what_was_damaged_meanwhile_is_made_again(release, whole, tmp_path, monkeypatch, damage):
    interrupted(release, tmp_path, monkeypatch)
    crop = tmp_path / "crops" / "007.jpg"
    if damage == "cut":
        crop.write_bytes(crop.read_bytes()[:100])
    elif damage == "gone":
        crop.unlink()
    elif damage == "empty part":  # as after a power failure
        (tmp_path / ".work" / "parts" / "000000.parquet").write_bytes(b"")
    else:
        (tmp_path / ".work" / "parts" / "000000.parquet").unlink()
    prepare(OPTIONS, lambda _: read_release(release), tmp_path)
    assert contents(tmp_path) == whole


def test_another_release_is_refused_in_the_middle(release, tmp_path, monkeypatch):
    interrupted(release, tmp_path, monkeypatch)
    table = read_release(release)
    shorter = FaceTable(table.frame[:-1], table.root, "folder", "none", (), table.report)
    with pytest.raises(DataError, match="release's table differs"):
        prepare(OPTIONS, lambda _: shorter, tmp_path)


def test_other_options_are_refused_in_the_middle(release, tmp_path, monkeypatch):
    interrupted(release, tmp_path, monkeypatch)
    other = PrepareOptions("folder", OPTIONS.crop._replace(size=96))
    with pytest.raises(DataError, match=r"started with other options: size was 64, is 96"):
        prepare(other, lambda _: read_release(release), tmp_path)


def test_overwriting_a_set_that_was_begun(release, whole, tmp_path, monkeypatch):
    interrupted(release, tmp_path, monkeypatch)
    other = PrepareOptions("folder", OPTIONS.crop._replace(size=96))
    prepare(other, lambda _: read_release(release), tmp_path, overwrite=True)
    assert read_prepared(tmp_path, "folder").frame["crop_x_from_x"].eq(96 / 60).all()


def test_one_at_a_time(release, tmp_path):
    with (
        locked(tmp_path, "mtmsa prepare"),
        pytest.raises(DataError, match=r"another `mtmsa prepare` .* is writing there"),
    ):
        prepare(OPTIONS, lambda _: read_release(release), tmp_path)


def test_names_of_crops():
    ids = ["morph/Album2/000001_0M25.JPG", "morph/album2/000001_0m25.png", "morph/a/b#2", "morph/a/b",
           "morph/../.x.jpg", "morph/" + 300 * "\u00e4" + ".jpg",
           'morph/q?"<|>\x01.jpg', "morph/dots...jpg"]  # fmt: skip
    names = crop_names(ids, "morph")
    assert names[:5] == [
        "crops/Album2/000001_0M25.jpg", "crops/album2/000001_0m25-2.jpg", "crops/a/b.jpg", "crops/a/b-2.jpg",
        "crops/_/x.jpg",
    ]  # fmt: skip
    assert names[6:] == ["crops/q______.jpg", "crops/dots.jpg"]
    assert all(len(part.encode()) <= 255 for name in names for part in name.split("/"))
    assert len({name.casefold() for name in names}) == len(names)
