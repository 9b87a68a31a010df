"""A logger that writes ``metrics.csv``, one row per epoch."""

import csv
from argparse import Namespace
from io import StringIO
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mtmsa_lightning._utils.atomic_write import write_text


class EpochCSV(Logger):
    """Write one row per epoch to a CSV file; a continued run keeps its rows, unlike with ``CSVLogger``."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.rows: dict[int, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: runs differ by their directory."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> "EpochCSV":
        """Read the rows of a continued run."""
        if not self.rows and self.file.is_file():
            with self.file.open(newline="", encoding="utf-8") as stream:
                self.rows = {int(row["epoch"]): dict(row) for row in csv.DictReader(stream)}
        return self

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Merge metrics into their epoch's row; test metrics are in ``run.json``."""
        values = {key: value for key, value in metrics.items() if not key.startswith("test/")}
        epoch = values.pop("epoch", None)
        if epoch is None or not values:
            return
        number = int(epoch)
        self.rows = {old: row for old, row in self.experiment.rows.items() if old <= number}
        self.rows.setdefault(number, {"epoch": number})
        self.rows[number] |= {"step": step} | values

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: settings are in ``config.yaml``."""

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        if not self.rows:
            return
        names = {name for row in self.rows.values() for name in row} - {"epoch", "step"}
        text = StringIO()
        writer = csv.DictWriter(text, ["epoch", "step", *sorted(names)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows.values())
        write_text(self.file, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file."""
        self.save()
