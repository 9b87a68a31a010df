"""The columns of a table that hold ages."""

import shlex
from pathlib import Path

import pandas as pd

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.face_table import MAX_AGE, ReadReport, parse_ages
from mtmsa_lightning.data.tables.ages import Years, group_of_date, has_decimal_commas, is_date, parse_age
from mtmsa_lightning.data.tables.dates import completed_years, parse_dates
from mtmsa_lightning.errors import DataError

UNKNOWN_YEARS = Years(float("nan"), float("nan"))


def parse(
    rows: pd.DataFrame, report: ReadReport, path: Path, repair_dates: bool, date_format: str | None
) -> pd.DataFrame:
    """Set ``age_low`` and ``age_high`` in completed years, NaN where empty; drop rows without a valid age.

    Args:
        rows: Texts with line numbers as index: ``photo``; and ``age``, or ``age_low`` and ``age_high``, or
            ``birth_date`` and ``photo_date``.
        report: Report to which rows are added.
        path: Path of the table, for messages.
        repair_dates: Restore age groups that became dates, and note them.
        date_format: Format of the dates, if it is not clear.

    Raises:
        DataError: Age groups became dates, unless they are to be repaired; or the order of day and month is
            not clear.
    """
    if "age_low" in rows:
        rows = _parse_pair(rows, report)
    elif "age" in rows:
        rows = _parse_texts(_restore(rows, report, path, repair_dates), report)
    else:
        rows = _parse_dates(rows, report, path, date_format)
    fraction = (rows["age_low"] % 1 > 0) | (rows["age_high"] % 1 > 0)
    report.note_rows(rows, fraction, "photo", "age cut to completed years")
    return rows.assign(age_low=rows["age_low"] // 1, age_high=rows["age_high"] // 1)


def _parse_pair(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    for name in ("age_low", "age_high"):
        numbers = parse_ages(rows[name].str.replace(",", ".", regex=False))
        rows = rows.assign(item=rows["photo"] + f": {name} '" + rows[name] + "'")
        bad = (rows[name] != "") & numbers.isna()
        rows = report.drop_rows(
            rows.assign(**{name: numbers}), bad, "item", f"{name} is not a number from 0 to {MAX_AGE}"
        )
    single = rows["age_low"].isna() != rows["age_high"].isna()
    rows = report.drop_rows(rows, single, "photo", "one of age_low and age_high is empty")
    return report.drop_rows(rows, rows["age_low"] > rows["age_high"], "photo", "age_low is above age_high")


def _restore(rows: pd.DataFrame, report: ReadReport, path: Path, repair: bool) -> pd.DataFrame:
    """Restore age groups that a spreadsheet turned into dates."""
    groups = {text: group_of_date(text) for text in rows["age"].unique() if is_date(text)}
    damaged = rows["age"].isin([*groups])
    lost = damaged if not repair else rows["age"].isin([text for text, group in groups.items() if not group])
    if lost.any():
        line, text = next(iter(rows.loc[lost, "age"].items()))
        stated = shlex.quote(f"{{age: {{{to_json(text)}: 3-9}}}}")
        what, remedy = "a group", f"state the groups, e.g. --data.labels {stated}"
        if group := groups[text]:
            what, remedy = f"the group {group}", "restore the groups: --data.repair_dates true"
        raise DataError(
            f"{path}: line {line}: age {shown([text])} is a date, which a spreadsheet made of {what} "
            f"({lost.sum():,} of {len(rows):,} rows): use the table as it was before, or {remedy}"
        )
    report.note_rows(rows, damaged, "photo", "age group restored from a spreadsheet's date")
    return rows.assign(age=rows["age"].replace({text: group or text for text, group in groups.items()}))


def _parse_texts(rows: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    texts = rows["age"].unique()
    comma = has_decimal_commas(texts.tolist())
    years = {text: parse_age(text, comma) if text else UNKNOWN_YEARS for text in texts}
    rows = rows.assign(item=rows["photo"] + ": age '" + rows["age"] + "'")
    for reason in dict.fromkeys(each.error for each in years.values() if each.error):
        bad = rows["age"].isin([text for text, each in years.items() if each.error == reason])
        rows = report.drop_rows(rows, bad, "item", reason)
    low, high = ({text: each[end] for text, each in years.items()} for end in (0, 1))
    return rows.assign(
        age_low=rows["age"].map(low).astype(float), age_high=rows["age"].map(high).astype(float)
    )


def _parse_dates(rows: pd.DataFrame, report: ReadReport, path: Path, date_format: str | None) -> pd.DataFrame:
    dates = {name: parse_dates(rows[name], path, date_format) for name in ("birth_date", "photo_date")}
    for name, parsed in dates.items():
        rows = rows.assign(item=rows["photo"] + f": {name} '" + rows[name] + "'")
        bad = (rows[name] != "") & parsed["first"].isna()[rows.index]
        rows = report.drop_rows(rows, bad, "item", f"{name} is not a date in the format of the column")
    ages = completed_years(dates["birth_date"], dates["photo_date"]).loc[rows.index]
    rows = rows.assign(age_low=ages["age_low"], age_high=ages["age_high"])
    item = rows["photo"] + ": " + rows["birth_date"] + " to " + rows["photo_date"]
    wrong = ages["age_low"].notna() & ~(ages["age_low"].ge(0) & ages["age_high"].le(MAX_AGE))
    return report.drop_rows(
        rows.assign(item=item), wrong, "item", f"age from the dates is outside 0 to {MAX_AGE}"
    )
