"""Jobs of SLURM, by submitit and programs that do on this machine what those of SLURM do."""

import subprocess
import sys
import time

import fake_slurm
import pytest

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.studies import slurm
from mtmsa_lightning.studies.jobs import LOST, Job
from mtmsa_lightning.studies.slurm import SlurmJobs, read_options

TRAINING = """
import os, pathlib, signal, sys, time
saved = pathlib.Path(sys.argv[1])
assert not any(name.startswith("SLURM_") for name in os.environ)
print("epoch 2 of", os.environ["GROUP"]) if saved.exists() else print("epoch 1")
if not saved.exists():
    def save(number, frame):
        saved.touch()
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
    pathlib.Path(sys.argv[1] + ".ready").touch()
    time.sleep(60)
"""
"""A training that is stopped once, saves, and continues when it is started again."""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.3)
    return fake_slurm.install(tmp_path / "bin", monkeypatch)


def job(tmp_path, name, code, *args):
    command = (sys.executable, "-ISc", code, *map(str, args))
    return Job(name, command, tmp_path / "logs" / f"{name}.log", {"GROUP": "folds"})


def wait_for(file):
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.02)


def test_jobs_are_one_array_and_go_on_after_their_time_limit(queue, tmp_path):
    saved = tmp_path / "saved"
    jobs = [
        job(tmp_path, "good", "print('epoch 1')"),
        job(tmp_path, "bad", "raise SystemExit(3)"),
        job(tmp_path, "long", TRAINING, saved),
    ]
    options = read_options(["partition=gpu", "time=2:00:00", "constraint=a100"])
    launcher = SlurmJobs(tmp_path / "slurm", options)
    ended = {}
    for each, status, _ in launcher.run(jobs):
        ended[each.name] = status
        if len(ended) == 2:
            wait_for(tmp_path / "saved.ready")
            subprocess.run(["scancel", "100_2", "--signal=USR1"], check=True)
    assert ended == {"good": 0, "bad": 3, "long": 0}
    assert [line for line in jobs[2].log.read_text().splitlines() if line.startswith("epoch")] == [
        "epoch 1", "epoch 2 of folds",
    ]  # fmt: skip
    script = (queue / "100.sh").read_text()
    for line in ("array=0-2%3", "partition=gpu", "time=120", "constraint=a100", "signal=USR1@300", "requeue"):
        assert f"#SBATCH --{line}\n" in script
    assert not any(launcher.has(each.log) for each in jobs)


def test_what_is_queued_is_waited_for_and_not_submitted_again(queue, tmp_path, caplog):
    jobs = [job(tmp_path, name, TRAINING, tmp_path / name) for name in ("a", "b")]
    running = SlurmJobs(tmp_path / "slurm", {}).run(jobs)
    with pytest.raises(KeyboardInterrupt):
        wait_until_ready(tmp_path, jobs, running)
    assert "scancel 100" in caplog.text
    again = SlurmJobs(tmp_path / "slurm", {})
    assert all(again.has(each.log) for each in jobs)
    for number in (0, 1):
        subprocess.run(["scancel", f"100_{number}", "--signal=USR1"], check=True)
    assert {each.name: status for each, status, _ in again.run(jobs)} == {"a": 0, "b": 0}
    assert [file.name for file in queue.glob("*.sh")] == ["100.sh"]


def wait_until_ready(tmp_path, jobs, running):
    """Interrupt a launcher, as Ctrl-C does, when its jobs run."""

    def interrupt(seconds):
        if all((tmp_path / f"{each.name}.ready").exists() for each in jobs):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm.time, "sleep", interrupt)
        next(running)


def test_a_job_that_left_the_queue_without_a_status_is_lost(queue, tmp_path):
    lost = job(tmp_path, "lost", TRAINING, tmp_path / "saved")
    running = SlurmJobs(tmp_path / "slurm", {}).run([lost])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm, "_queued", lambda: set())
        ((_, status, _),) = running
    assert status == LOST
    wait_for(tmp_path / "saved.ready")
    subprocess.run(["scancel", "100", "--signal=KILL"], check=True)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("1:30:00", 90), ("1:00:01", 61), ("2-12", 3600), ("1-0:30", 1470)],
)
def test_time_limits_of_sbatch(text, minutes):
    assert read_options([f"-t={text}"]) == {"time": minutes}


def test_options_of_sbatch():
    options = read_options(["--mem-per-cpu=4G", "exclusive", "c=4", "nice=100"])
    assert options == {"mem_per_cpu": "4G", "exclusive": True, "cpus_per_task": 4, "nice": 100}
    for wrong in ("=3", "time=soon", "time=1:2:3:4"):
        with pytest.raises(ConfigError, match="--slurm"):
            read_options([wrong])


def test_without_slurm_or_submitit_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        SlurmJobs(tmp_path, {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'mtmsa-lightning\[slurm\]'"):
        SlurmJobs(tmp_path, {})
