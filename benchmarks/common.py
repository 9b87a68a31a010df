"""The output of all benchmarks: rows with their units, and a description of the machine.

A file of measurements holds::

    {"format": 1, "date": ..., "commit": ..., "machine": {...}, "versions": {...}, "load": 0.3,
     "rows": [{"name": "decode/200x240/OpenCV", "value": 1.39, "unit": "x Pillow", "better": "more",
               "setting": "one core, 64 photos of quality 90", "low": 1.35, "high": 1.43}, ...],
     "details": ...}

Two files are compared by ``name``; ``setting`` is all that a measurement depends on besides machine and
versions.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Literal

from mtmsa_lightning._utils.cores import available_cores

FORMAT = 1

PACKAGES = (
    "torch", "torchvision", "lightning", "torchmetrics", "albumentations", "opencv-python-headless", "pillow",
    "numpy", "pandas", "onnxruntime",
)  # fmt: skip
"""Packages whose versions are recorded."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: ``<benchmark>/<case>/...``, the same in every run.
        value: The measurement.
        unit: Its unit.
        better: Which direction is better; None if neither is.
        setting: All that it depends on besides machine and versions.
        low: Smallest of the repeats that ``value`` is the median of.
        high: Largest of them.
    """

    name: str
    value: float
    unit: str
    better: Literal["more", "less"] | None
    setting: str = ""
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        values: Sequence[float],
        unit: str,
        better: Literal["more", "less"] | None,
        setting: str,
    ) -> "Row":
        """Return a row with the median and the extremes of repeats."""
        return cls(name, median(values), unit, better, setting, min(values), max(values))


def machine() -> dict[str, Any]:
    """Describe the machine; equal machines have equal descriptions."""
    import torch

    gpus = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor(),
        "cores": available_cores(),
        "memory": f"{memory:.0f} GiB",
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages in ``PACKAGES``."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of the checkout, ending in ``-dirty`` if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def record(rows: Iterable[Row], load: float, details: Any = None) -> dict[str, Any]:
    """Return rows together with machine, versions and commit.

    Args:
        rows: The rows.
        load: Load of the machine before the measurement, ``os.getloadavg()[0]``.
        details: Other results to keep, as plain values.
    """
    return {
        "format": FORMAT,
        "date": datetime.now().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "load": round(load, 1),
        "rows": [asdict(row) for row in rows],
    } | ({} if details is None else {"details": details})


def write(file: Path, rows: Iterable[Row], load: float, details: Any = None) -> None:
    """Write a file of measurements, see :func:`record`."""
    file.write_text(json.dumps(record(rows, load, details), indent=2) + "\n")


def read(file: Path) -> dict[str, Any]:
    """Read a file of measurements; its ``rows`` are :class:`Row`.

    Raises:
        ValueError: The file has another content.
    """
    try:
        content = json.loads(file.read_text())
        if content["format"] != FORMAT:
            raise KeyError(f"format {content['format']}, expected {FORMAT}")
        return {**content, "rows": [Row(**row) for row in content["rows"]]}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: not a file of measurements ({type(error).__name__}: {error})") from error


def number(value: float) -> str:
    """Format a measurement with three significant digits, or without decimals from 1,000.

    >>> number(1234.5), number(12.345), number(0.012345)
    ('1,234', '12.3', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def table(rows: Iterable[Row]) -> str:
    """Return rows as a text table: name, value with its extremes, unit, better direction."""
    cells = [("", "median (min-max)", "unit", "better")]
    for row in rows:
        spread = "" if row.low is None or row.high is None else f" ({number(row.low)}-{number(row.high)})"
        cells.append((row.name, number(row.value) + spread, row.unit, row.better or "-"))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def heading(found: Mapping[str, Any]) -> str:
    """Return the conditions of the measurements: machine, versions, commit, load."""
    conditions = {**found["machine"], "gpus": ", ".join(found["machine"]["gpus"]) or "none"}
    conditions["versions"] = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    conditions |= {"commit": found["commit"], "load": f"{found['load']} before the run"}
    return "\n".join(f"{key:10} {value}" for key, value in conditions.items())
