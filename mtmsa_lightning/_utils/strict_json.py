"""Write and read strict JSON with NaN and infinity.

JSON has neither NaN nor infinity. In the JSON files of this package such a number is null, and the object
that contains it has an entry ``not_finite`` with its text, ``nan``, ``inf`` or ``-inf``::

    {"val/age_mae": null, "val/loss": 3.5, "not_finite": {"val/age_mae": "nan"}}

An item of a list is named with its index, ``{"share[3]": "nan"}``. CSV files contain the same texts, which
pandas reads as numbers.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

NOT_FINITE = "not_finite"


def to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Return plain values as strict JSON, with options of :func:`json.dumps`; tuples become lists.

    ValueError for a number that is not finite outside of any dictionary.
    """
    return json.dumps(_strict(value, "", {}), indent=indent, allow_nan=False, **options)


def from_json(text: str | bytes) -> Any:
    """Read the JSON of :func:`to_json`, or any other."""
    return json.loads(text, object_hook=_restored)


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file: the text of a number that is not finite, else the value."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _strict(value: Any, place: str, broken: dict[str, str]) -> Any:
    if isinstance(value, Mapping):
        own: dict[str, str] = {}
        plain = {name: _strict(item, str(name), own) for name, item in value.items()}
        return plain | ({NOT_FINITE: own} if own else {})
    if isinstance(value, list | tuple):
        return [_strict(item, f"{place}[{number}]", broken) for number, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value) and place and not place.startswith("["):
        broken[place] = str(float(value))
        return None
    return value


def _restored(found: dict[str, Any]) -> dict[str, Any]:
    broken = found.get(NOT_FINITE)
    if not isinstance(broken, dict):
        return found
    del found[NOT_FINITE]
    for place, text in broken.items():
        name, numbers = re.fullmatch(r"(.*?)((?:\[\d+\])*)", place, re.DOTALL).groups()  # type: ignore[union-attr]
        keys: list[Any] = [name, *map(int, re.findall(r"\d+", numbers))]
        holder: Any = found
        for key in keys[:-1]:
            holder = holder[key]
        holder[keys[-1]] = float(text)
    return found
