"""The signals that ask a program to stop, and what hears them where nothing better does."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # Windows lacks some

STOP_SIGNALS = [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]
"""Ctrl-C, the end of a job, the announcement of that end, a closed terminal."""

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""What a process gets when its terminal is closed; not on Windows."""

TRY_AGAIN = 75
"""Exit status of a run that was stopped by a signal: EX_TEMPFAIL of sysexits.h."""


class Stopped(BaseException):
    """A signal has asked this process to stop.

    No ``Exception``, so that nothing that handles errors takes it for one; and no ``KeyboardInterrupt``, for
    which Lightning ends the process by itself.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.name = signal.Signals(number).name
        self.status = 128 + number


def stopped_by(name: str, then: str = "") -> str:
    """Return the line that every command ends with after a signal.

    Args:
        name: The signal.
        then: What was done, and how to go on.
    """
    return f"stopped by {name}" + (f": {then}" if then else "")


@contextmanager
def raised_on_signals() -> Iterator[None]:
    """Raise :class:`Stopped` in the main thread at a stop signal; a second Ctrl-C ends the process at once.

    A signal that is ignored, as nohup ignores SIGHUP, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, heard = os.getpid(), False

    def hear(number: int, frame: object) -> None:
        nonlocal heard
        if os.getpid() != owner or (heard and number == signal.SIGINT):  # a forked child has no use for it
            end_at_once(number)
        if number == HANGUP and os.isatty(1):
            write_nowhere()
        if not heard:
            heard = True
            raise Stopped(number)

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(number: int) -> None:
    """End this process by a signal, without cleaning up and without a traceback."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def write_nowhere() -> None:
    """Drop further output, which has no reader any more: an error of a line must not stop the saving."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
