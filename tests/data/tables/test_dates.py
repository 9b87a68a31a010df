import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmsa_lightning.data.tables.dates import completed_years, parse_dates
from mtmsa_lightning.errors import DataError

PATH = Path("t.csv")
days = st.dates(datetime.date(1900, 1, 1), datetime.date(2030, 12, 31))
pairs = st.lists(st.tuples(days, days), min_size=1, max_size=20)
"""Days of birth and of the photo, for a column each."""


def years(birth, at):
    """Return the completed years of an age."""
    return at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))


def ages(births, photos, given_format=None):
    parts = [parse_dates(pd.Series(texts, name="d", dtype="str"), PATH, given_format)
             for texts in (births, photos)]  # fmt: skip
    return completed_years(*parts).to_numpy().tolist()


@settings(max_examples=20)
@given(pairs=pairs, form=st.sampled_from(["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y"]))
def test_ages_are_completed_years(pairs, form):
    wanted = [years(birth, photo) for birth, photo in pairs]
    births, photos = ([day.strftime(form) for day in column] for column in zip(*pairs, strict=True))
    assert ages(births, photos) == [[age, age] for age in wanted]


@settings(max_examples=20)
@given(pairs=pairs)
def test_a_year_alone_gives_all_ages_of_that_year(pairs):
    births, photos = zip(*pairs, strict=True)
    wanted = [
        [years(birth, photo.replace(month=1, day=1)), years(birth, photo.replace(month=12, day=31))]
        for birth, photo in pairs
    ]
    assert ages([birth.isoformat() for birth in births], [str(photo.year) for photo in photos]) == wanted


@settings(max_examples=20)
@given(pairs=pairs)
def test_a_month_alone_gives_all_ages_of_that_month(pairs):
    wanted = []
    for birth, photo in pairs:
        first = photo.replace(day=1)
        last = (first + datetime.timedelta(days=31)).replace(day=1) - datetime.timedelta(days=1)
        wanted.append([years(birth, first), years(birth, last)])
    births = [birth.isoformat() for birth, _ in pairs]
    assert ages(births, [f"{photo:%Y-%m}" for _, photo in pairs]) == wanted
    assert ages(births, [f"{photo:%m/%Y}" for _, photo in pairs], "%m/%Y") == wanted


@settings(max_examples=20)
@given(
    days=st.lists(days, min_size=1, max_size=20),
    form=st.sampled_from(["%d %b %Y", "%B %d, %Y", "%d.%m.%Y %H:%M", "%Y%m%d", "%d/%m/%Y"]),
)
def test_a_given_format_is_used_as_it_is(days, form):
    found = parse_dates(pd.Series([day.strftime(form) for day in days], name="d", dtype="str"), PATH, form)
    for column in found:
        assert found[column].tolist() == [pd.Timestamp(day) for day in days]


def test_a_given_format_need_not_fit_both_columns():
    assert ages(["03/04/1980"], ["2000-04-02"], "%d/%m/%Y") == [[19, 19]]


@pytest.mark.parametrize("time", ["T10:11:12+02:00", " 10:11:12.123456Z", " 9:05 PM", " 00:00"])
def test_times_of_all_forms_are_cut(time):
    assert ages([f"1980-05-01{time}"], [f"2000:04:30{time}"]) == [[19, 19]]


def test_years_with_a_fraction_are_years():
    assert ages(["1980.0", ""], ["2000", "2000.0"])[0] == [19, 20]


@pytest.mark.parametrize("text", ["15 Jun 1980", "19800615", "29387"])
def test_a_column_without_a_known_date_is_named(text):
    texts = pd.Series(["", text], index=[2, 3], name="dob", dtype="str")
    with pytest.raises(DataError, match=rf"t.csv: line 3: dob '{text}' .*--data.date_format '%d %b %Y'"):
        parse_dates(texts, PATH)


@pytest.mark.parametrize("form", ["YYYY-MM-DD", "%d.%m."])
def test_a_format_without_a_year_is_refused(form):
    with pytest.raises(DataError, match="is not a format with a year"):
        parse_dates(pd.Series(["1980-01-01"]), PATH, form)


def test_times_are_cut_and_unknown_dates_are_kept():
    found = ages(["1980-05-01 00:00:00", "", "x"], ["2000-05-01T12:30", "2000-05-01", "2000-05-01"])
    np.testing.assert_equal(found, [[20, 20], [np.nan] * 2, [np.nan] * 2])


def test_the_order_of_day_and_month_is_not_guessed():
    texts = pd.Series(["02/02/1980", "03/04/1980"], index=[2, 3], name="dob", dtype="str")
    with pytest.raises(DataError, match=r"t.csv: line 3: dob '03/04/1980' may begin with .*%m/%d/%Y"):
        parse_dates(texts, PATH)
    assert parse_dates(texts, PATH, "%d/%m/%Y")["first"].dt.month.tolist() == [2, 4]
    clear = pd.Series(["25/04/1980", "03/04/1980"], name="dob", dtype="str")
    assert parse_dates(clear, PATH)["first"].dt.month.tolist() == [4, 4]
    assert parse_dates(pd.Series(["04/25/1980", "03/04/1980"]), PATH)["first"].dt.month.tolist() == [4, 3]


def test_a_wrong_format_is_named():
    with pytest.raises(DataError, match=r"data\.date_format '%Q' is not a format"):
        parse_dates(pd.Series(["1980"]), PATH, "%Q")
