"""A callback that records the start-up times of a run, in wall-clock and processor time."""

import json
import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

STARTED, FILE = "BENCHMARK_STARTED", "BENCHMARK_FILE"
"""Environment variables: ``time.monotonic()`` before the process was started, and the file to write."""


class FirstStep(Callback):
    """Records the first time of each stage: seconds since the process was started, and processor seconds."""

    def __init__(self) -> None:
        self.passed: dict[str, tuple[float, float]] = {}
        self._note("settings parsed")

    def _note(self, what: str) -> None:
        clock = time.monotonic() - float(os.environ[STARTED])
        self.passed.setdefault(what, (clock, time.process_time()))

    def on_fit_start(self, *_: Any) -> None:
        """Record that data are read and split, loggers open, and the network on its device."""
        self._note("data and model ready")

    def on_train_start(self, *_: Any) -> None:
        """Record the end of the validation's sanity check."""
        self._note("validation tried")

    def on_train_batch_start(self, *_: Any) -> None:
        """Record the arrival of the first batch."""
        self._note("first batch")

    def on_train_batch_end(self, *_: Any) -> None:
        """Record the end of the first step."""
        self._note("first step")
        Path(os.environ[FILE]).write_text(json.dumps(self.passed))
