"""Commands as child processes, several at once, each with a log of its own."""

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
    """A command to run.

    Attributes:
        name: Prefix of its lines on the console.
        command: Program and arguments.
        log: File that its output is appended to.
    """

    name: str
    command: tuple[str, ...]
    log: Path


class JobPool:
    """Runs children, as many at once as there are slots.

    Each child is a process group of its own, so that a signal reaches it, and whatever it has launched,
    exactly once and through this class: SIGTERM, upon which a training saves after its step. A child that
    calls :func:`end_with_parent` gets it from itself, too, when this process ends in any way.

    Args:
        slots: Environment variables that the children of each slot get on top of this process's own.
        echoed: Which lines of a child's output are shown on the console.
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

    def run(self, children: Sequence[Job]) -> Iterator[tuple[Job, int, float]]:
        """Run all children.

        Yields:
            Each child when it has ended, with its exit status and the seconds that it took.

        Raises:
            Stopped: When a signal has asked this process to stop, after its children have ended. A second
                Ctrl-C does not wait for them.
        """
        with ThreadPoolExecutor(self.slots) as pool, raised_on_signals():
            try:
                started = {pool.submit(self._run, child): child for child in children}
                for future in as_completed(started):
                    yield started[future], *future.result()
            except BaseException:  # whoever consumes this may fail as well: no child is left behind
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise

    def _run(self, child: Job) -> tuple[int, float]:
        slot = self._free.get()
        start = time.monotonic()
        try:
            child.log.parent.mkdir(parents=True, exist_ok=True)
            own = {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: "stdin"}
            environment = {**os.environ, **safe_path(), **own, **slot}
            with child.log.open("a", buffering=1, encoding="utf-8", errors="replace") as file:
                file.write(f"$ {shlex.join(child.command)}\n")
                status = self._follow(child, environment, file.write)
        finally:
            self._free.put(slot)
        return status, time.monotonic() - start

    def _follow(self, child: Job, environment: dict[str, str], write: Callable[[str], object]) -> int:
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            process = subprocess.Popen(
                child.command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                write(line)
                if self.echoed(line):
                    log.info("[%s] %s", child.name, line.rstrip())
        with self._lock:
            self._running.discard(process)
        return process.returncode

    def _stop(self) -> None:
        """Tell what runs to stop, and kill what has not ended after a while."""
        self._signal(signal.SIGTERM)
        try:
            deadline = time.monotonic() + GRACE
            while self._running and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the groups that still hold their output open; start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)


def tail(file: Path, lines: int) -> str:
    """Return the last lines of a text file, indented."""
    text = file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text)
