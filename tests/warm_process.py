"""Start Python processes in which torch, Lightning and the package are imported already.

A test of signals, locks or ranks sees the same as with ``python``: a process with an environment, a working
directory, output and an exit status.
"""

import os
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import warm_server


class WarmProcess:
    """A process that runs ``python ARGUMENTS``, of which the first is ``-m``, ``-c`` or a script.

    Its output goes to files, so that no pipe fills up.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))
        weakref.finalize(self, shutil.rmtree, self.folder)
        line = [warm_server.start(), *map(str, arguments)]
        with (self.folder / "stdout").open("ab") as stdout, (self.folder / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                line, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=stdout,
                stderr=stderr, start_new_session=True,
            )  # fmt: skip

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return (self.folder / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """Its errors so far."""
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """Return the exit status, negative of a signal, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end and return the exit status."""
        return self._process.wait(timeout)

    def waited_for(self, happened: Callable[[], bool], timeout: float = 300) -> bool:
        """Wait until something is true or the process ends, and return whether it is true."""
        deadline = time.monotonic() + timeout
        while not happened() and self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return happened()

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        self._process.send_signal(number)


def run(*arguments: object, environment: Mapping[str, str] | None = None) -> WarmProcess:
    """Run a process to its end."""
    process = WarmProcess(*arguments, environment=environment)
    process.wait(600)
    return process
