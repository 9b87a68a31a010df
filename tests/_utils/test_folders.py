"""The lock of a folder, held and left by real processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from mtmsa_lightning._utils.atomic_write import replacing
from mtmsa_lightning._utils.folders import LOCK, holder, is_empty, locked, make_folder
from mtmsa_lightning.errors import ConfigError, DataError

HOLD = """
import os
import sys
import time
from pathlib import Path
from mtmsa_lightning._utils.folders import locked
with locked(Path(sys.argv[1]), "mtmsa other"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        os.write(1, b"child %d\\n" % os.getpid())
        time.sleep(60)
        os._exit(0)
    os.write(1, b"held %d\\n" % os.getpid())
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Start a process that holds the lock of a folder; returns it once it does."""
    with ExitStack() as started:

        def start(folder, how="plainly"):
            process = started.enter_context(
                subprocess.Popen([sys.executable, "-c", HOLD, folder, how], stdout=subprocess.PIPE, text=True)
            )
            started.callback(process.kill)
            lines = dict(process.stdout.readline().split() for _ in range(1 + (how == "fork")))
            return process, lines

        yield start


def test_a_second_process_is_refused_and_told_who_writes_there(tmp_path, hold):
    process, _ = hold(tmp_path / "run")
    message = rf"run: another `mtmsa other` \(process {process.pid} on .* since 20.*\) is writing there: wait"
    with pytest.raises(DataError, match=message), locked(tmp_path / "run", "mtmsa fit"):
        pass
    assert f"process {process.pid}" in holder(tmp_path / "run")


@pytest.mark.parametrize("how", ["plainly", "fork"])
def test_a_lock_ends_with_its_process_even_where_a_fork_of_it_lives_on(tmp_path, hold, how):
    process, lines = hold(tmp_path / "run", how)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / LOCK).is_file(), "what is left behind"
    try:
        if how == "fork":
            os.kill(int(lines["child"]), 0)
        assert holder(tmp_path / "run") is None
        with locked(tmp_path / "run", "mtmsa fit"):
            pass
    finally:
        if how == "fork":
            os.kill(int(lines["child"]), signal.SIGKILL)


def test_a_lock_is_waited_for(tmp_path, hold):
    process, _ = hold(tmp_path)
    start = time.monotonic()
    process.send_signal(signal.SIGKILL)
    with locked(tmp_path, "mtmsa fit", wait=20):
        assert time.monotonic() - start < 19


def test_a_lock_is_no_content(tmp_path):
    assert is_empty(tmp_path / "absent")
    with locked(tmp_path, "mtmsa fit"):
        assert is_empty(tmp_path)
    assert is_empty(tmp_path)
    (tmp_path / "file").touch()
    assert not is_empty(tmp_path)
    assert not is_empty(tmp_path / "file")


def test_the_lock_of_one_process_is_not_taken_twice(tmp_path):
    with locked(tmp_path, "mtmsa fit"), pytest.raises(DataError, match="`mtmsa fit`"), locked(tmp_path, "x"):
        pass


@pytest.mark.parametrize(
    ("error", "files", "left"),
    [
        (ConfigError, [], []),
        (ConfigError, ["config.yaml"], []),
        (KeyboardInterrupt, ["config.yaml"], []),
        (ConfigError, ["config.yaml", "last.ckpt"], ["config.yaml", "last.ckpt"]),
        (RuntimeError, ["config.yaml"], ["config.yaml"]),
        (None, ["config.yaml"], ["config.yaml"]),
        (None, [], []),
    ],
)
def test_a_failure_takes_what_it_made_and_nothing_else(tmp_path, error, files, left):
    (tmp_path / "runs").mkdir()
    with (
        pytest.raises(error) if error else ExitStack(),
        locked(tmp_path / "runs" / "morph" / "run", "mtmsa fit", worthless=["config.yaml"]),
    ):
        for name in files:
            (tmp_path / "runs" / "morph" / "run" / name).touch()
        if error:
            raise error
    found = [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK]
    assert sorted(found) == left
    assert (tmp_path / "runs").is_dir(), "it was there before"
    assert (tmp_path / "runs" / "morph").exists() is bool(left)


def test_a_folder_that_was_there_stays_empty_or_not(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError), locked(tmp_path, "mtmsa fit", worthless=["config.yaml"]):
        raise ConfigError
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_worthless_files_may_lie_in_folders(tmp_path):
    def fail():
        with locked(tmp_path / "set", "x", worthless=[".work/plan.json", "wandb"]):
            for name in (".work/plan.json", "wandb/log"):
                (tmp_path / "set" / name).parent.mkdir()
                (tmp_path / "set" / name).touch()
            raise ConfigError

    with pytest.raises(ConfigError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_half_written_files_of_a_killed_process_are_removed_and_others_stay(tmp_path):
    (tmp_path / "set").mkdir()
    with replacing(tmp_path / "pixels.npy", "77") as left, replacing(tmp_path / "set" / "x") as of_others:
        pass
    left.write_bytes(b"half")
    ours = [tmp_path / "run.json", tmp_path / ".notes.partial", of_others]
    for file in ours:
        file.touch()
    with locked(tmp_path, "mtmsa fit"):
        assert not left.exists()
    assert all(file.exists() for file in ours)


def test_of_two_that_make_a_folder_one_has_made_it(tmp_path):
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == [folder, folder.parent]
    assert make_folder(folder) == []


@pytest.mark.parametrize("place", ["/proc/none/x", "file/x"])
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, place):
    (tmp_path / "file").touch()
    message = "nothing can be written there"
    with pytest.raises(DataError, match=message), locked(tmp_path / place, "mtmsa fit"):
        pass
