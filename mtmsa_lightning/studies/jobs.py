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
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from mtmsa_lightning._utils.processes import GRACE, PARENT_VARIABLE, safe_path
from mtmsa_lightning._utils.signals import raised_on_signals

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A command to run, the prefix of its lines on the console, and the file for its output."""

    name: str
    command: tuple[str, ...]
    log: Path


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
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, int, float]]:
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
        job.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with job.log.open("a", buffering=1, encoding="utf-8", errors="replace") as file:
                file.write(f"$ {shlex.join(job.command)}\n")
                process = self._start(job, slot)
                if process is None:
                    return -signal.SIGTERM, 0.0
                with process:
                    for line in process.stdout or ():
                        file.write(line)
                        if self.echoed(line):
                            log.info("[%s] %s", job.name, line.rstrip())
        finally:
            self._free.put(slot)
        with self._lock:
            self._running.discard(process)
        return process.returncode, time.monotonic() - start

    def _start(self, job: Job, slot: Mapping[str, str]) -> subprocess.Popen[str] | None:
        """Start a job, unless the pool was stopped."""
        variables = {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: "stdin"}
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                job.command, env={**os.environ, **safe_path(), **variables, **slot}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True,
            )  # fmt: skip
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


def tail(file: Path, lines: int) -> str:
    """Return the last lines of a text file, indented."""
    text = file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text)
