"""Messages of the package on the console: plain, on standard output, from the first process only."""

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
    """Writes to whatever standard output is at the moment (tests and progress bars replace it)."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(_Short())

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
    "SLURM auto-requeueing enabled",  # callbacks.preemption takes its place
)
"""Beginnings of Lightning's messages that say nothing about a run."""

HARMLESS = (
    ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 with torch 2.14
    ".*does not have many workers.*",  # the default is one worker per core already
    ".*sync_dist=True.*",  # metrics are reduced by themselves, and equal on all processes
    ".*callbacks used to create the checkpoint.*",  # checkpointing has no part in a test
    ".*Checkpoint directory .* exists and is not empty.*",  # a continued run
)


class _Short(logging.Formatter):
    """Shortens warnings and errors, which may quote what was read; tables of results are shown whole."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message without a traceback."""
        text = super().formatMessage(record)
        return shorten_message(text) if record.levelno >= logging.WARNING else escape(text)


def to_file(file: Path) -> None:
    """Copy messages to a file, from the start of the verb on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    target = logging.FileHandler(file, encoding="utf-8")
    target.setFormatter(_Short("%(asctime)s %(message)s"))
    _buffer.setTarget(target)
    _buffer.flush()
    _buffer.capacity = 1  # no more waiting


_buffer = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1)
"""Holds the messages until the run has a directory."""


def _start_buffer() -> None:
    if isinstance(_buffer.target, logging.FileHandler):
        _buffer.target.close()
    _buffer.setTarget(None)
    _buffer.buffer.clear()
    _buffer.capacity = 100_000
    for name in LOGGED:
        logging.getLogger(name).addHandler(_buffer)


def to_console() -> None:
    """Show messages of this package, and Lightning's without advertisements."""
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    _start_buffer()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).addFilter(_tells_something)
    logger = logging.getLogger("mtmsa_lightning")
    logger.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        logger.addHandler(_Stdout())


def drawn(table: "Table") -> str:
    """Draw a table as text, the same on a console of any width."""
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as text:
        console.print(table)
    return text.get().rstrip()


def _tells_something(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(HINTS)
