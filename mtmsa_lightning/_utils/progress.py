"""Progress with rate and time left: a bar on a terminal, else a line every few seconds."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


Advance = Callable[[int], object]
"""Function that advances the progress by a number of items."""


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show the progress of ``total`` items, called ``what``; the rate excludes ``done`` earlier ones."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    if not console.is_terminal:
        yield _Lines(what, total, done)
        return
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(what, total=total, completed=done, rate="")
        start, count = time.monotonic(), 0

        def advance(n: int) -> None:
            nonlocal count
            count += n
            bar.update(task, advance=n, rate=f"{count / (time.monotonic() - start):.0f}/s")

        yield advance


class _Lines:
    """Log a line every few seconds."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self.what, self.total, self.done, self.before = what, total, done, done
        self.start = self.last = time.monotonic()

    def __call__(self, n: int) -> None:
        """Count ``n`` items."""
        self.done += n
        now = time.monotonic()
        if now - self.last >= SECONDS_BETWEEN_LINES or self.done == self.total:
            rate = (self.done - self.before) / max(now - self.start, 1e-9)
            left = (self.total - self.done) / rate if rate else math.inf  # nothing is done yet
            done, total = f"{self.done:,}", f"{self.total:,}"
            log.info("%s of %s %s (%.0f/s, %.0f s left)", done, total, self.what, rate, left)
            self.last = now
