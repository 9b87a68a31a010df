"""Log messages of the package to standard output, from the first process only, and to a file."""

import logging
import sys
import warnings
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

from mtmsa_lightning._utils.launch import is_first_process
from mtmsa_lightning.errors import escape, shorten_message

if TYPE_CHECKING:
    from rich.table import Table


class _Stdout(logging.StreamHandler):  # type: ignore[type-arg]
    """Write to the current ``sys.stdout``, which tests and progress bars replace."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


LOGGED = ("mtmsa_lightning", "lightning.pytorch")
"""Loggers whose messages go to ``run.log``."""

HINTS = (
    "💡",
    "Loading `train_dataloader` to estimate",
    "Restoring states from",
    "TPU available: False",
    "Loaded model weights from",
    "SLURM auto-requeueing enabled",  # callbacks.preemption replaces it
)
"""Beginnings of Lightning's messages that are not shown."""

HARMLESS = (
    ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 with torch 2.14
    ".*does not have many workers.*",  # the default is one worker per core
    ".*sync_dist=True.*",  # metrics are reduced by themselves, and equal on all processes
    ".*callbacks used to create the checkpoint.*",  # callbacks of checkpoints are not needed in a test
    ".*Checkpoint directory .* exists and is not empty.*",  # a continued run
)


class _Short(logging.Formatter):
    """Shorten warnings and errors, which may quote long values; tables of results are not shortened."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message without a traceback."""
        text = super().formatMessage(record)
        return shorten_message(text) if record.levelno >= logging.WARNING else escape(text)


def to_file(file: Path) -> None:
    """Write messages to a file, including those since the start of the command."""
    file.parent.mkdir(parents=True, exist_ok=True)
    target = logging.FileHandler(file, encoding="utf-8")
    target.setFormatter(_Short("%(asctime)s %(message)s"))
    if isinstance(_buffer.target, logging.FileHandler):  # of an earlier run of this command
        _buffer.target.close()
    _buffer.setTarget(target)
    _buffer.flush()
    _buffer.capacity = 1  # write at once from now on


_buffer = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1)
"""Keep messages until the run has a directory."""


def _start_buffer() -> None:
    if isinstance(_buffer.target, logging.FileHandler):
        _buffer.target.close()
    _buffer.setTarget(None)
    _buffer.buffer.clear()
    _buffer.capacity = 100_000
    for name in LOGGED:
        logging.getLogger(name).addHandler(_buffer)


def to_console() -> None:
    """Log messages of this package and Lightning, without Lightning's hints."""
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    _start_buffer()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).addFilter(_is_relevant)
    logger = logging.getLogger("mtmsa_lightning")
    logger.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        logger.addHandler(_Stdout())
        logger.handlers[-1].setFormatter(_Short())


def drawn(table: "Table", width: int = 100) -> str:
    """Return a table as text, independent of the width of the console."""
    from rich.console import Console

    console = Console(width=width)
    with console.capture() as text:
        console.print(table)
    return text.get().rstrip()


def _is_relevant(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(HINTS)
