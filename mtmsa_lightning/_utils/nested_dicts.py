"""Differences between nested settings."""

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
