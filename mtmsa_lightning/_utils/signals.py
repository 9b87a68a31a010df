"""The signals that stop a program, and their default handlers."""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # Windows lacks some

STOP_SIGNALS = [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]
"""Ctrl-C, end of a job, announced end of a job, closed terminal."""

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""The signal of a closed terminal; None on Windows."""

TRY_AGAIN = 75
"""Exit status of a run stopped by a signal: EX_TEMPFAIL of sysexits.h."""


class Stopped(BaseException):
    """A stop signal was received.

    Not an ``Exception``, which error handlers catch, and not a ``KeyboardInterrupt``, on which Lightning ends
    the process.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.name = signal.Signals(number).name
        self.status = 128 + number


def stopped_by(name: str, then: str = "") -> str:
    """Return the last line of a command after a signal: what was done, and how to continue."""
    return f"stopped by {name}" + (f": {then}" if then else "")


@contextmanager
def raised_on_signals() -> Iterator[None]:
    """Raise :class:`Stopped` in the main thread on a stop signal; a second Ctrl-C ends the process at once.

    Ignored signals, such as SIGHUP under nohup, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, received = os.getpid(), False

    def handle(number: int, frame: object) -> None:
        nonlocal received
        if os.getpid() != owner or (received and number == signal.SIGINT):  # in a forked child too
            end_at_once(number)
        if number == HANGUP:
            leave_terminal()
        if not received:
            received = True
            raise Stopped(number)

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(number: int) -> None:
    """End this process by a signal, without cleanup and traceback."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def leave_terminal() -> None:
    """Discard further output to a terminal: writing to a closed one would raise and prevent saving.

    A closed terminal is a character device, as every terminal, but no longer ``isatty``.
    """
    if stat.S_ISCHR(os.fstat(1).st_mode):
        write_nowhere()


def write_nowhere() -> None:
    """Discard further output, which nobody reads."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
