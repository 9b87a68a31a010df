"""Nested settings: their differences, and names with dots."""

from collections.abc import Mapping
from typing import Any


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return the differences of two nested configs as texts ``key was old, is new``."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{key} was {old}, is {new}"]
    keys = dict.fromkeys([*old, *new])
    return [
        text
        for name in keys
        for text in differences(old.get(name), new.get(name), f"{key}.{name}".strip("."))
    ]


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with dots in their names as nested dictionaries.

    >>> nested({"model.msa.rates": [1, 2], "ema": 0.99})
    {'model': {'msa': {'rates': [1, 2]}}, 'ema': 0.99}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *folders, last = name.split(".")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return found
