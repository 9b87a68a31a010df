"""Jobs of a Ray cluster of one node."""

import _thread
import sys
import threading
import time

import pytest

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.studies.jobs import Job
from mtmsa_lightning.studies.ray_jobs import RayJobs

pytestmark = pytest.mark.slow

TRAINING = """
import pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(60)
"""


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def job(tmp_path, name, code, *args):
    command = (sys.executable, "-ISc", code, *map(str, args))
    return Job(name, command, tmp_path / "logs" / f"{name}.log", {"GROUP": "folds"})


def test_jobs_run_as_tasks_with_a_log_each(cluster, tmp_path):
    said = "import os; print('epoch 1 of', os.environ['GROUP'])"
    jobs = [job(tmp_path, "good", said), job(tmp_path, "bad", "raise SystemExit(3)")]
    assert {each.name: status for each, status, _ in RayJobs(0, 8, 1).run(jobs)} == {"good": 0, "bad": 3}
    assert jobs[0].log.read_text().splitlines()[1:] == ["epoch 1 of folds"]
    assert cluster.is_initialized()


def test_an_interrupted_launcher_lets_its_jobs_save(cluster, tmp_path):
    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        list(RayJobs(0, 1).run([job(tmp_path, "long", TRAINING, tmp_path)]))
    deadline = time.monotonic() + 30
    while not (tmp_path / "saved").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cluster_without_the_gpus_is_refused(cluster, tmp_path):
    with pytest.raises(ConfigError, match="a run needs 4 GPUs of a node, not 0"):
        list(RayJobs(4, 1).run([job(tmp_path, "good", "")]))


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'mtmsa-lightning\[ray\]'"):
        RayJobs(0, 1)
