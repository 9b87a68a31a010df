"""Run commands as processes, several at once, each with its own log."""

import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Protocol

from mtmsa_lightning._utils.processes import GRACE, PARENT_VARIABLE, safe_path
from mtmsa_lightning._utils.signals import raised_on_signals

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A command, the prefix of its lines on the console, the file for its output, and its variables."""

    name: str
    command: tuple[str, ...]
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict, compare=False)

    def start(self, environment: Mapping[str, str], output: int | IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start the command, which ends when this process does if it calls :func:`end_with_parent`."""
        added = {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: "stdin", **self.variables}
        return subprocess.Popen(
            self.command, env={**environment, **safe_path(), **added}, stdin=subprocess.PIPE, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


LOST = -1
"""Exit status of a job that ended without one: it was cancelled, or its node failed."""

Ended = tuple[Job, int, float]
"""A job that has ended, its exit status and its seconds."""


class Launcher(Protocol):
    """Where jobs run: :class:`JobPool` here, others on clusters."""

    def has(self, log: Path) -> bool:
        """Return whether an earlier call has queued the job with this log, and it still waits or runs."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Run all jobs, or wait for those of an earlier call; yield each when it has ended."""


class JobPool:
    """Run jobs, as many at once as there are slots, with the environment variables of their slot.

    Each job is a process group, so that a signal reaches it and its child processes exactly once: SIGTERM,
    after which a training saves and ends. A job that calls :func:`end_with_parent` also ends when this
    process is killed. The output lines that are ``echoed`` go to the console too.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]], echoed: Callable[[str], bool]) -> None:
        self.slots = len(slots)
        self.echoed = echoed
        self._free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def has(self, log: Path) -> bool:
        """Return False: jobs end with this process."""
        return False

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Run all jobs; yield each when it has ended, with its exit status and its seconds.

        Raises:
            Stopped: After a signal to this process, when all jobs have ended. A second Ctrl-C does not wait
                for them.
        """
        with ThreadPoolExecutor(self.slots) as pool, raised_on_signals():
            try:
                started = {pool.submit(self._run, job): job for job in jobs}
                for future in as_completed(started):
                    yield started[future], *future.result()
            except BaseException:  # also of the caller, in the loop over this generator
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise

    def _run(self, job: Job) -> tuple[int, float]:
        """Run a job in a free slot and copy its output to the log."""
        slot, start = self._free.get(), time.monotonic()
        begin_log(job)
        try:
            with job.log.open("a", buffering=1, encoding="utf-8", errors="replace") as file:
                process = self._start(job, slot)
                if process is None:
                    return -signal.SIGTERM, 0.0
                assert process.stdout is not None
                with process, TextIOWrapper(process.stdout, encoding="utf-8", errors="replace") as output:
                    for line in output:
                        file.write(line)
                        if self.echoed(line):
                            log.info("[%s] %s", job.name, line.rstrip())
        finally:
            self._free.put(slot)
        with self._lock:
            self._running.discard(process)
        return process.returncode, time.monotonic() - start

    def _start(self, job: Job, slot: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
        """Start a job, unless the pool was stopped."""
        with self._lock:
            if self._stopped:
                return None
            process = job.start({**os.environ, **slot}, subprocess.PIPE)
            self._running.add(process)
            return process

    def _stop(self) -> None:
        """Terminate running jobs, and kill those that have not ended after ``GRACE`` seconds."""
        self._signal(signal.SIGTERM)
        try:
            deadline = time.monotonic() + GRACE
            while self._running and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the process groups of running jobs, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)


def begin_log(job: Job) -> None:
    """Add the command to a job's log, whose earlier output is kept."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(job.command)}\n")


def tail(file: Path, lines: int) -> str:
    """Return the last lines of a text file, indented."""
    text = file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text)
