import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.face_table import MAX_AGE
from mtmsa_lightning.data.tables.ages import AMBIGUOUS, NO_AGE, group_of_date, is_date, parse_age

ages = st.integers(0, MAX_AGE)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("25", 25, 25), ("25.0", 25, 25), (" 7.9 ", 7.9, 7.9), ("0", 0, 0), ("130", 130, 130),
        ("34,5", 34.5, 34.5), ("34,05", 34.05, 34.05), ("34,25", 34.25, 34.25), ("0,5", None, None),
        ("25-32", 25, 32), ("(25, 32)", 25, 32), ("[25,32]", 25, 32), ("25 - 32", 25, 32),
        ("25 to 32", 25, 32), ("25\u201332", 25, 32), ("25..32", 25, 32), ("3-3", 3, 3), ("25, 32", 25, 32),
        ("[20, 30)", 20, 29), ("(20, 30]", 21, 30), ("2.5-4.5", 2.5, 4.5), ("25;32", 25, 32),
        ("60+", 60, 100), ("60 +", 60, 100), ("more than 70", 70, 100), ("More Than 70", 70, 100),
        (">70", 70, 100), (">= 70", 70, 100), ("\u226570", 70, 100), ("over 70", 70, 100),
        ("70 and over", 70, 100), ("70 or older", 70, 100), ("70 and up", 70, 100), ("at least 70", 70, 100),
        ("<3", 0, 2), ("under 3", 0, 2), ("less than 3", 0, 2), ("< 2.5", 0, 2), ("<=3", 0, 3),
        ("\u22643", 0, 3), ("up to 3", 0, 3), ("3 and under", 0, 3), ("3 or younger", 0, 3),
        ("20s", 20, 29), ("20's", 20, 29), ("20\u2019s", 20, 29), ("0s", None, None), ("90s", 90, 99),
        ("25-2", None, None), ("25-131", None, None), ("131", None, None), ("131+", None, None),
        ("100+", 100, 130),
        ("(25, 32", None, None), ("25-32]", None, None), ("<0", None, None), ("25s", None, None),
        ("old", None, None), ("+25", None, None), ("-25", None, None), ("1e1", None, None), ("", None, None),
        ("25 years", None, None), ("25.", None, None), ("\uff12\uff15", None, None), ("1-2-3", None, None),
    ],
)  # fmt: skip
def test_texts_of_ages(text, low, high):
    years = parse_age(text)
    if low is None:
        assert years.error in (NO_AGE, AMBIGUOUS)
    else:
        assert years == (low, high, "")


@pytest.mark.parametrize(("text", "error"), [("25,32", AMBIGUOUS), ("2,5", AMBIGUOUS), ("0,5", AMBIGUOUS)])
def test_a_comma_between_possible_ends_of_a_group_is_not_guessed(text, error):
    assert parse_age(text).error == error


@given(low=ages, high=ages, form=st.sampled_from([
    "{}-{}", "{} - {}", "({}, {})", "[{}, {}]", "({},{})", "{} to {}", "{}\u2013{}", "{}\u2014{}", "{}..{}",
]))  # fmt: skip
def test_groups_are_read_back_from_any_spelling(low, high, form):
    years = parse_age(form.format(low, high))
    assert years == ((low, high, "") if low <= high else (0, 0, NO_AGE))


@given(age=ages, form=st.sampled_from(["{}+", "more than {}", "> {}", "{} and older", "over {}", "\u2265{}"]))
def test_open_groups_are_read_back(age, form):
    assert parse_age(form.format(age)) == (age, 100 if age < 100 else MAX_AGE, "")


@given(age=st.floats(0, MAX_AGE).map(lambda age: round(age, 3)))
def test_decimal_numbers_are_read_back(age):
    assert parse_age(f"{age:.3f}") == (age, age, "")


@given(st.text(max_size=12))
def test_any_text_is_an_age_or_none(text):
    low, high, error = parse_age(text)
    assert error or 0 <= low <= high <= MAX_AGE


@given(low=st.integers(1, 31), high=st.integers(1, 31))
def test_groups_are_restored_from_the_dates_that_a_spreadsheet_makes(low, high):
    """A spreadsheet reads 3-9 as a day and a month, in an order that depends on the region."""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    low, high = sorted((low, high))
    for day, month in ((low, high), (high, low)):
        if month <= 12:
            name = months[month - 1]
            for text in (f"{day}-{name}", f"{day:02d}-{name}", f"{name}-{day}", f"{name}-{day:02d}"):
                assert group_of_date(text) == f"{low}-{high}"
                assert parse_age(text).error


@pytest.mark.parametrize("text", ["3-9", "25", "Sep", "3-Sept", "more than 70", "", "Sep-2003"])
def test_other_texts_are_no_dates(text):
    assert group_of_date(text) is None


@pytest.mark.parametrize("text", [
    "3-9", "25", "more than 70", "", "25-32", "(25, 32)", "25.5", "20s", "60+", "25..32", "1-2-3", "25 to 32",
    "3 months", "may",
])  # fmt: skip
def test_ages_are_no_dates(text):
    assert not is_date(text)


@pytest.mark.parametrize("text", [
    "03-Sep", "Oct-19", "3. Sep", "03-sept", "Okt 19", "Sep-2003", "2024-09-03", "2024-09-03 00:00:00",
    "03.09.2024", "9/3/24", "2024-09-03T00:00",
])  # fmt: skip
def test_dates_of_all_forms_are_dates(text):
    assert is_date(text)
