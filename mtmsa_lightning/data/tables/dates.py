"""Ages from birth date and photo date."""

import re
from pathlib import Path

import pandas as pd

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.errors import DataError

FORMATS: tuple[str, ...] = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y:%m:%d", "%Y-%m")
"""Formats of dates, one for a column; ``%Y:%m:%d`` is that of cameras."""

_TIME = r"[T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?( ?[AaPp][Mm])?(Z|[+-][0-9]{2}:?[0-9]{2})?$"


def parse_dates(texts: "pd.Series[str]", path: Path, given: str | None = None) -> pd.DataFrame:
    """Convert texts to dates: columns ``first`` and ``last``, the days between which the date lies.

    Both are equal, except for a month or year alone; a year may stand among dates. A time is cut off, unless
    it is part of ``given``. Other texts become NaT.

    Args:
        texts: Texts of a column, named by it, with line numbers as index; empty for an unknown date.
        path: Path of the table, for messages.
        given: Format of the dates; without one, or if it fits no text, the one of ``FORMATS`` that fits most.

    Raises:
        DataError: Day and month may be exchanged, no text is a date, or ``given`` has no year.
    """
    if given and not re.search("%[Yy]", given):
        raise DataError(f"data.date_format {given!r} is not a format with a year, such as '%d/%m/%Y'")
    days = texts.str.replace(_TIME, "", regex=True)
    parsed = {each: _parse(days, each) for each in FORMATS}
    if given:
        fits = _parse(texts, given).fillna(_parse(days, given))
        parsed = {given: fits} if fits.notna().any() else parsed
    counts = {each: int(dates.notna().sum()) for each, dates in parsed.items()}
    best = max(counts, key=lambda each: counts[each])
    if given not in parsed and 0 < counts["%m/%d/%Y"] == counts["%d/%m/%Y"] == counts[best]:
        _check_order(texts, parsed["%m/%d/%Y"], parsed["%d/%m/%Y"], path)
    years = _parse(days.str.extract(r"^([0-9]{4})(?:\.0*)?$")[0].fillna(""), "%Y")
    first = parsed[best].fillna(years)
    _check_any(texts, first, path)
    last = (parsed[best] + _length(best)).fillna(years + _length("%Y"))
    return pd.DataFrame({"first": first, "last": last})


def iso_dates(texts: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    """Convert texts such as "2003-05-31" to dates; NaT for any other text."""
    return _parse(texts, FORMATS[0])


def completed_years(births: pd.DataFrame, photos: pd.DataFrame) -> pd.DataFrame:
    """Return the inclusive ages ``age_low`` and ``age_high`` in completed years; NaN for an unknown date.

    Args:
        births: Birth dates, see :func:`parse_dates`.
        photos: Dates of the photos.
    """
    low = years_between(births["last"], photos["first"])
    return pd.DataFrame({"age_low": low, "age_high": years_between(births["first"], photos["last"])})


def _parse(texts: "pd.Series[str]", layout: str) -> "pd.Series[pd.Timestamp]":
    """Return the dates of the texts that have a layout, NaT for others."""
    unique = texts.drop_duplicates()
    try:
        dates = pd.to_datetime(unique, format=layout, errors="coerce")
        return pd.to_datetime(texts.map(dict(zip(unique, dates, strict=True))))
    except ValueError as error:
        raise DataError(f"data.date_format {layout!r} is not a format of a date ({error})") from error


def _length(layout: str) -> pd.DateOffset:
    """Return the time from the first to the last day that a text of a layout stands for."""
    if re.search("%[djcxD]", layout):
        return pd.DateOffset(days=0)
    months = 1 if re.search("%[mbB]", layout) else 12
    return pd.DateOffset(months=months, days=-1)


def _check_any(texts: "pd.Series[str]", dates: "pd.Series[pd.Timestamp]", path: Path) -> None:
    """Raise an error if there are texts, none of which is a date."""
    stated = texts[texts != ""]
    if len(stated) and dates.isna().all():
        line, text = next(iter(stated.items()))
        raise DataError(
            f"{path}: line {line}: {texts.name} {shown([text])} has no known format of a date, nor has any "
            "other of the column: give theirs, e.g. --data.date_format '%d %b %Y'"
        )


def _check_order(
    texts: "pd.Series[str]",
    month_first: "pd.Series[pd.Timestamp]",
    day_first: "pd.Series[pd.Timestamp]",
    path: Path,
) -> None:
    """Raise an error if both orders of day and month fit and differ."""
    differ = month_first.notna() & day_first.notna() & (month_first != day_first)
    if differ.any():
        line, text = next(iter(texts[differ].items()))
        raise DataError(
            f"{path}: line {line}: {texts.name} {shown([text])} may begin with the month or the day: give "
            "--data.date_format '%m/%d/%Y' or --data.date_format '%d/%m/%Y'"
        )


def years_between(births: "pd.Series[pd.Timestamp]", photos: "pd.Series[pd.Timestamp]") -> "pd.Series[float]":
    """Return the completed years; somebody born on 29 February has a birthday on 1 March in other years."""
    before = (photos.dt.month < births.dt.month) | (
        (photos.dt.month == births.dt.month) & (photos.dt.day < births.dt.day)
    )
    years = (photos.dt.year - births.dt.year - before).astype("float64")
    return years.where(births.notna() & photos.notna())
