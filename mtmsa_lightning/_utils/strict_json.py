"""Records as JSON and CSV: numbers that are not finite stay in them, and a result on part of a part says so.

JSON has neither NaN nor infinity. In every JSON file of this package such a number is null, and the object
that holds it names it in an entry ``not_finite`` with its text, ``nan``, ``inf`` or ``-inf``::

    {"val/age_mae": null, "val/loss": 3.5, "not_finite": {"val/age_mae": "nan"}}

An item of a list is named with its place, ``{"share[3]": "nan"}``. Any reader of strict JSON reads the files;
:func:`from_json` puts the numbers back. In CSV files the same texts stand in the cells, and pandas reads them
as numbers; an empty cell means that there is no such metric.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

NOT_FINITE = "not_finite"


def to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Write plain values as strict JSON, see above; tuples become lists.

    Args:
        value: Dictionaries, lists, texts, numbers, None.
        indent: As for :func:`json.dumps`, like what follows.
        options: Further options.

    Raises:
        ValueError: If a number that is not finite lies outside of any dictionary.
    """
    return json.dumps(_strict(value, "", {}), indent=indent, allow_nan=False, **options)


def from_json(text: str | bytes) -> Any:
    """Read what :func:`to_json` wrote, or any other JSON."""
    return json.loads(text, object_hook=_restored)


def csv_cell(value: Any) -> Any:
    """Return a value as a table for CSV holds it: a number that is not finite is its text."""
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
