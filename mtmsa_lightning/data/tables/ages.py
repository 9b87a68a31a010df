"""Ages and age groups written as texts."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from mtmsa_lightning.data.face_table import MAX_AGE

_NUMBER = r"[0-9]{1,3}(?:[.,][0-9]{1,20})?"
_RANGE = re.compile(rf"([(\[]?)\s*({_NUMBER})\s*(?:-|to|\.\.\.?|(?P<comma>[,;]))\s*({_NUMBER})\s*([)\]]?)")
_FROM = re.compile(
    rf"(?:(?:>=?|≥|over|above|more than|older than|at least|from)\s*({_NUMBER})|"
    rf"({_NUMBER})\s*(?:\+|(?:and|or)\s+(?:over|above|older|more|up)|plus))"
)
_BELOW = re.compile(rf"(?:<(?!=)|under|below|less than|younger than)\s*({_NUMBER})")
_UP_TO = re.compile(
    rf"(?:(?:<=|≤|up to|at most)\s*({_NUMBER})|({_NUMBER})\s*(?:and|or)\s+(?:under|below|younger|less))"
)
_DECADE = re.compile(r"([0-9]{1,2}0)\s*'?s")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-") | {"’": "'"})  # noqa: RUF001
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(rf"(?:([0-9]{{1,2}})-({'|'.join(_MONTHS)})|({'|'.join(_MONTHS)})-([0-9]{{1,2}}))")
_ANY_MONTH = f"(?:{'|'.join(_MONTHS)}|mär|mrz|mai|okt|dez)[a-zé]*"
_ANY_DATE = re.compile(
    r"(?:[0-9]{4}([-/.])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([-/.])[0-9]{1,2}\2(?:[0-9]{2}|[0-9]{4}))(?:[t ].*)?"
    rf"|(?=.*[0-9])[0-9]{{0,2}}[-/. ]*{_ANY_MONTH}[-/. ]*[0-9]{{0,4}}"
)

_OLDEST = 100
"""End of an open group in years, as of the last group of Adience."""

NO_AGE = f"age is not a number or group from 0 to {MAX_AGE}"
AMBIGUOUS = "age may be a decimal number or a group: write 2.5 or 2-5"


class Years(NamedTuple):
    """An inclusive range of ages in years, fractions allowed; ``error`` is the reason if there is none."""

    low: float = 0.0
    high: float = 0.0
    error: str = ""


def parse_age(text: str, decimal_comma: bool = False) -> Years:
    """Return the age or age group of a text; ``2,5`` is a number only with ``decimal_comma``.

    Numbers have a decimal point or comma. Groups are inclusive ranges in any brackets (``25-32``,
    ``(25, 32)``, ``25 to 32``; ``[20, 30)`` excludes 30), open ones (``60+``, ``more than 70``, ``<3``,
    ``up to 2``; to 100 years or from 0) and decades (``20s``). Ages are continuous: ``more than 70``
    begins at 70 completed years and ``<3`` ends at 2.

    >>> parse_age("(25, 32)")[:2], parse_age("60+")[:2], parse_age("<3")[:2], parse_age("34,5")[:2]
    ((25.0, 32.0), (60.0, 100.0), (0.0, 2.0), (34.5, 34.5))
    """
    text = text.translate(_DASHES).strip().casefold()
    if re.fullmatch(_NUMBER, text):
        first, _, second = text.partition(",")
        if not decimal_comma and second and _may_be_group(first, second):
            return Years(error=AMBIGUOUS)
        return _years(_value(text), _value(text))
    if match := _RANGE.fullmatch(text):
        opening, low, _, high, closing = match.groups()
        if bool(opening) != bool(closing):
            return Years(error=NO_AGE)
        outside = (opening == "(" and closing == "]", opening == "[" and closing == ")")
        return _years(_value(low) + outside[0], _value(high) - outside[1])
    if match := _FROM.fullmatch(text):
        low = _value(match[1] or match[2])
        return _years(low, _OLDEST if low < _OLDEST else MAX_AGE)
    if match := _BELOW.fullmatch(text):
        return _years(0, -(-_value(match[1]) // 1) - 1)
    if match := _UP_TO.fullmatch(text):
        return _years(0, _value(match[1] or match[2]))
    if match := _DECADE.fullmatch(text):
        return _years(int(match[1]), int(match[1]) + 9)
    return Years(error=NO_AGE)


def group_of_date(text: str) -> str | None:
    """Return the age group that a spreadsheet turned into a date such as ``03-Sep``; None for other texts.

    Day and month are the group's ends: 3-9 becomes 3 September or 9 March, 10-19 becomes ``Oct-19``.

    >>> group_of_date("03-Sep"), group_of_date("9-Mar"), group_of_date("Oct-19"), group_of_date("3-9")
    ('3-9', '3-9', '10-19', None)
    """
    match = _DATE.fullmatch(text.translate(_DASHES).strip().casefold())
    if not match:
        return None
    number, month = int(match[1] or match[4]), _MONTHS.index(match[2] or match[3]) + 1
    return f"{min(number, month)}-{max(number, month)}"


def is_date(text: str) -> bool:
    """Return whether a text is a date, also one of which :func:`group_of_date` restores no group.

    >>> is_date("03-Sep"), is_date("2024-09-03 00:00:00"), is_date("3. Sep"), is_date("3-9")
    (True, True, True, False)
    """
    return bool(_ANY_DATE.fullmatch(text.translate(_DASHES).strip().casefold()))


def has_decimal_commas(texts: Sequence[str]) -> bool:
    """Return whether most ages with a comma can only be numbers, as ``34,5``, and none is written as a group.

    >>> has_decimal_commas(["34,5", "61,5", "2,5"]), has_decimal_commas(["25,32", "61,5"])
    (True, False)
    """
    commas = [text.strip().split(",") for text in texts if "," in text]
    plain = [parts for parts in commas if len(parts) == 2 and all(part.isdecimal() for part in parts)]
    groups = sum(_may_be_group(*parts) for parts in plain)
    return len(plain) == len(commas) and len(plain) > 2 * groups


def _may_be_group(first: str, second: str) -> bool:
    return int(first) <= int(second) <= MAX_AGE and not second.startswith("0")


def _value(text: str) -> float:
    return float(text.replace(",", "."))


def _years(low: float, high: float) -> Years:
    valid = 0 <= low <= high <= MAX_AGE
    return Years(float(low), float(high)) if valid else Years(error=NO_AGE)
