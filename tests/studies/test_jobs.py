import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mtmsa_lightning._utils.signals import STOP_SIGNALS, Stopped
from mtmsa_lightning.studies import jobs as module
from mtmsa_lightning.studies.jobs import Job, JobPool, tail

LAUNCHER = """
import signal, subprocess, time
inner = subprocess.Popen(["sleep", "60"])
signal.signal(signal.SIGTERM, {answer})
try:
    print("launched", inner.pid)
    time.sleep(60)
except KeyboardInterrupt:
    print("saved")
"""


def child(tmp_path, name, code):
    return Job(name, (sys.executable, "-c", code), tmp_path / "logs" / f"{name}.log")


def test_output_goes_to_a_log_and_chosen_lines_to_the_console(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    talker = child(
        tmp_path, "a", "print('epoch 1'); print('noise'); import sys; print('bad', file=sys.stderr)"
    )
    ended = list(JobPool([{}], echoed=lambda line: line.startswith("epoch")).run([talker]))
    assert [(each.name, status) for each, status, _ in ended] == [("a", 0)]
    command, *printed = talker.log.read_text().splitlines()
    assert command.startswith("$ ")
    assert sorted(printed) == ["bad", "epoch 1", "noise"]
    assert caplog.messages == ["[a] epoch 1"]
    assert tail(talker.log, 1).startswith("    ")


def test_a_log_is_kept_when_the_child_runs_again(tmp_path):
    for word in ("first", "second"):
        list(JobPool([{}], echoed=lambda line: False).run([child(tmp_path, "a", f"print({word!r})")]))
    assert "first" in (tmp_path / "logs" / "a.log").read_text()


def test_a_child_that_fails_does_not_stop_the_others(tmp_path):
    jobs = [child(tmp_path, str(status), f"raise SystemExit({status})") for status in (3, 0, 1)]
    ended = {each.name: status for each, status, _ in JobPool([{}], lambda line: False).run(jobs)}
    assert ended == {"3": 3, "0": 0, "1": 1}


def test_as_many_run_at_once_as_there_are_slots_each_in_its_own_environment(tmp_path):
    """Each of two waits for the other: one after the other they would never end."""
    code = (
        "import os, pathlib, time\n"
        "here = pathlib.Path(os.environ['HERE']); (here / os.environ['SLOT']).touch()\n"
        "while len(list(here.iterdir())) < 2: time.sleep(0.01)"
    )
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    slots = [{"SLOT": name, "HERE": str(meeting)} for name in ("x", "y")]
    ended = list(JobPool(slots, lambda line: False).run([child(tmp_path, n, code) for n in ("a", "b")]))
    assert [status for _, status, _ in ended] == [0, 0]
    assert sorted(path.name for path in meeting.iterdir()) == ["x", "y"]


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("listening", [True, False])
def test_an_interrupt_ends_the_children_and_what_they_launched(tmp_path, monkeypatch, number, listening):
    monkeypatch.setattr(module, "GRACE", 20 if listening else 0.5)
    answer = "signal.default_int_handler" if listening else "signal.SIG_IGN"
    jobs = [child(tmp_path, name, LAUNCHER.format(answer=answer)) for name in ("a", "b")]
    handler = signal.getsignal(signal.SIGTERM)

    def interrupt():
        while not has_launched(jobs[0].log):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Stopped) as stop:
        list(JobPool([{}], lambda line: False).run(jobs))
    thread.join()
    assert stop.value.status == 128 + number
    lines = jobs[0].log.read_text().splitlines()
    (inner,) = [int(line.split()[1]) for line in lines if line.startswith("launched ")]
    assert ("saved" in lines) == listening, "it could save what it must, unless it did not listen"
    assert ended(inner)
    assert not has_launched(jobs[1].log)
    assert signal.getsignal(signal.SIGTERM) is handler


STUBBORN = """
import sys
from pathlib import Path
from mtmsa_lightning.studies.jobs import Job, JobPool
from mtmsa_lightning._utils.signals import raised_on_signals

deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('launched'); input()"
job = Job("a", (sys.executable, "-c", deaf), Path(sys.argv[1]))
with raised_on_signals():
    list(JobPool([{}], lambda line: False).run([job]))
"""


def test_a_second_interrupt_does_not_wait_for_the_children(tmp_path):
    command = [sys.executable, "-c", STUBBORN, str(tmp_path / "log")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as parent:
        while not has_launched(tmp_path / "log"):
            time.sleep(0.02)
        for _ in range(2):
            parent.send_signal(signal.SIGINT)
            time.sleep(0.5)  # two signals that wait together are one
        assert parent.communicate(timeout=module.GRACE / 2) == (None, b"")
    assert parent.returncode == -signal.SIGINT


def has_launched(log):
    return log.exists() and any(line.startswith("launched") for line in log.read_text().splitlines())


def ended(pid):
    """Whether a process has ended, a few moments given."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split()[2]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_child_imports_nothing_from_the_working_directory(tmp_path, monkeypatch):
    """Nor does what it starts in turn, as Lightning starts the processes of a training."""
    (tmp_path / "planted.py").write_text("")
    monkeypatch.chdir(tmp_path)
    code = "import subprocess, sys; subprocess.call([sys.executable, '-m', 'planted'])"
    jobs = [
        child(tmp_path, "again", code),
        Job("at once", (sys.executable, "-m", "planted"), tmp_path / "logs" / "at once.log"),
    ]
    assert len(list(JobPool([{}], lambda line: False).run(jobs))) == 2
    for job in jobs:
        assert "No module named planted" in job.log.read_text()
