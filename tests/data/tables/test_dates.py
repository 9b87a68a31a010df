import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.tables.dates import completed_years, parse_dates
from mtmsa_lightning.errors import DataError

PATH = Path("t.csv")
days = st.dates(datetime.date(1900, 1, 1), datetime.date(2030, 12, 31))


def ages(births, photos, given_format=None):
    parts = [parse_dates(pd.Series(texts, name="d", dtype="str"), PATH, given_format)
             for texts in (births, photos)]  # fmt: skip
    return completed_years(*parts).to_numpy().tolist()


@given(birth=days, photo=days, form=st.sampled_from(["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y"]))
def test_ages_are_completed_years(birth, photo, form):
    wanted = photo.year - birth.year - ((photo.month, photo.day) < (birth.month, birth.day))
    assert ages([birth.strftime(form)], [photo.strftime(form)]) == [[wanted, wanted]]


@given(birth=days, photo=st.integers(1900, 2030))
def test_a_year_alone_gives_all_ages_of_that_year(birth, photo):
    possible = [
        photo - birth.year - ((month, day) < (birth.month, birth.day))
        for month, day in [(1, 1), (12, 31), (birth.month, min(birth.day, 28))]
    ]
    assert ages([birth.isoformat()], [str(photo)]) == [[min(possible), max(possible)]]


@given(birth=days, photo=days)
def test_a_month_alone_gives_all_ages_of_that_month(birth, photo):
    first = photo.replace(day=1)
    last = (first + datetime.timedelta(days=31)).replace(day=1) - datetime.timedelta(days=1)
    possible = [
        at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day)) for at in (first, last)
    ]
    assert ages([birth.isoformat()], [f"{photo:%Y-%m}"]) == [possible]
    assert ages([birth.isoformat()], [f"{photo:%m/%Y}"], "%m/%Y") == [possible]


@given(day=days, form=st.sampled_from(["%d %b %Y", "%B %d, %Y", "%d.%m.%Y %H:%M", "%Y%m%d", "%d/%m/%Y"]))
def test_a_given_format_is_used_as_it_is(day, form):
    found = parse_dates(pd.Series([day.strftime(form)], name="d", dtype="str"), PATH, form)
    assert found.iloc[0].tolist() == [pd.Timestamp(day)] * 2


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
