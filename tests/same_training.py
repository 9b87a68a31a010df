"""Comparison of two trainings, bit for bit."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every plain value of nested containers with its path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from leaves(item, f"{key}.{name}")
    else:
        yield key, value


def assert_same_state(found: dict[str, Any], expected: dict[str, Any], parts: Iterable[str]) -> None:
    """Compare parts of two checkpoints; both must have the same parts."""
    for part in parts:
        values, wanted = (dict(leaves(each.get(part), part)) for each in (found, expected))
        assert values.keys() == wanted.keys()
        for key, value in values.items():
            other = wanted[key]
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, key


def assert_same_metrics(found: Path, expected: Path) -> None:
    """Compare the ``metrics.csv`` of two runs in all columns that do not depend on timing."""
    tables = [pd.read_csv(run / "metrics.csv") for run in (found, expected)]
    timed = [name for name in tables[1] if name == "train/seconds" or name.startswith("speed/")]
    pd.testing.assert_frame_equal(*(table.drop(columns=timed) for table in tables))
