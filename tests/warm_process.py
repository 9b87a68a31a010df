"""Start Python processes in which torch, Lightning and the package are imported already.

Importing them takes a process several seconds; these are forked from one that has done it. A test of signals,
locks or ranks sees the same: a process with an environment, a working directory, output and an exit status.
"""

import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import TimeoutExpired

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["mtmsa_lightning.training.trainer_commands", "mtmsa_lightning.studies.crossval"]
)


class WarmProcess:
    """A process that runs ``python ARGUMENTS``, of which the first is ``-m`` or ``-c``.

    Its output goes to files, so that no pipe fills up.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))
        weakref.finalize(self, shutil.rmtree, self.folder)
        variables = {**os.environ, **(environment or {})}
        line = [str(argument) for argument in arguments]
        self._process = _FORKS.Process(target=_become, args=(line, variables, Path.cwd(), self.folder))
        self._process.start()
        self.pid = self._process.pid

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        file = self.folder / "stdout"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def stderr(self) -> str:
        """Its errors so far."""
        file = self.folder / "stderr"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def poll(self) -> int | None:
        """Return the exit status, negative of a signal, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end and return the exit status."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise TimeoutExpired("warm process", timeout)
        return status

    def waited_for(self, happened: Callable[[], bool], timeout: float = 300) -> bool:
        """Wait until something is true or the process ends, and return whether it is true."""
        deadline = time.monotonic() + timeout
        while not happened() and self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return happened()

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def run(*arguments: object, environment: Mapping[str, str] | None = None) -> WarmProcess:
    """Run a process to its end."""
    process = WarmProcess(*arguments, environment=environment)
    process.wait(600)
    return process


def _become(line: list[str], variables: dict[str, str], cwd: Path, folder: Path) -> None:
    """Do what ``python`` does with its arguments."""
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None  # read from the environment again
    os.chdir(cwd)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, encoding="utf-8")
    how, what, *rest = line
    sys.argv = [how, *rest]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
