"""What a process that was started as a child does: end with its parent, import from safe places."""

import os
import signal
import stat
import threading
import time
from pathlib import Path

from mtmsa_lightning._utils.signals import write_nowhere

GRACE = 20.0
"""Seconds that a child has to save before it is killed; SLURM's own grace is 30."""

PARENT_VARIABLE = "MTMSA_PARENT_PIPE"
"""Tells a child that its standard input is a pipe which ends with its parent."""

PACKAGE = Path(__file__).parents[1]
"""Where this package lies."""


def safe_path() -> dict[str, str]:
    """Return the environment in which Python imports nothing from the working directory, as by its ``-P``.

    Unlike the option it holds for all that a child starts in turn, such as the processes of Lightning. In a
    checkout that is not installed it would hide the package itself, which is what lies there.
    """
    return {} if PACKAGE.parent == Path.cwd() else {"PYTHONSAFEPATH": "1"}


def end_with_parent() -> None:
    """End in order when the process that started this one as a child is gone, even by SIGKILL."""
    if os.environ.get(PARENT_VARIABLE) == "stdin" and stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1024):  # nothing is ever written: it returns when the other end is closed
        pass
    write_nowhere()  # the parent read it
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
