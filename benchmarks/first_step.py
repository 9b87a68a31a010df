"""A callback that writes down how far a run has come when, by the clock and in processor time."""

import json
import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

STARTED, FILE = "BENCHMARK_STARTED", "BENCHMARK_FILE"
"""Environment variables: ``time.monotonic()`` before the process was started, and the file to write."""


class FirstStep(Callback):
    """Notes the first of each moment: seconds since the process was started, and of the processor."""

    def __init__(self) -> None:
        self.passed: dict[str, tuple[float, float]] = {}
        self._note("settings parsed")

    def _note(self, what: str) -> None:
        clock = time.monotonic() - float(os.environ[STARTED])
        self.passed.setdefault(what, (clock, time.process_time()))

    def on_fit_start(self, *_: Any) -> None:
        """Data are read and split, loggers are open, the network is where it trains."""
        self._note("data and model ready")

    def on_train_start(self, *_: Any) -> None:
        """The sanity check of the validation is over."""
        self._note("validation tried")

    def on_train_batch_start(self, *_: Any) -> None:
        """The first batch is there."""
        self._note("first batch")

    def on_train_batch_end(self, *_: Any) -> None:
        """The optimiser has stepped."""
        self._note("first step")
        Path(os.environ[FILE]).write_text(json.dumps(self.passed))
