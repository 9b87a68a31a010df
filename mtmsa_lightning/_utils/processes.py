"""Child processes: end with the parent, and import from safe paths."""

import os
import signal
import stat
import threading
import time
from pathlib import Path

from mtmsa_lightning._utils.signals import write_nowhere

GRACE = 20.0
"""Seconds for a child process to save before it is killed; SLURM allows 30."""

PARENT_VARIABLE = "MTMSA_PARENT_PIPE"
"""Environment variable of a child process whose standard input is a pipe from its parent."""

PACKAGE = Path(__file__).parents[1]
"""Folder of this package."""


def safe_path() -> dict[str, str]:
    """Return variables that keep Python from importing from the working directory, as ``python -P`` does.

    They are empty in a checkout, whose package is in the working directory.
    """
    return {} if PACKAGE.parent == Path.cwd() else {"PYTHONSAFEPATH": "1"}


def end_with_parent() -> None:
    """Terminate this process when its parent ends, even by SIGKILL."""
    if os.environ.get(PARENT_VARIABLE) == "stdin" and stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1024):  # returns when the other end is closed
        pass
    write_nowhere()  # the parent read the output
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
