"""Messages of the package on the console: plain, on standard output, from the first process only."""

import logging
import os
import sys


class _Stdout(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever standard output is at the moment (tests and progress bars replace it)."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


def to_console() -> None:
    """Show messages of level INFO and above of this package."""
    logger = logging.getLogger("mtmsa_lightning")
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    logger.setLevel(logging.INFO if first else logging.ERROR)
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        logger.addHandler(_Stdout())
