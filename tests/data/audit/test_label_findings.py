import pandas as pd
import pytest

from mtmsa_lightning.data.audit.labels import (
    ages_against_dates,
    conflicting_copies,
    describe_labels,
    disagreeing_subjects,
    falling_ages,
)
from mtmsa_lightning.labels import RACES


def dated(make, subject, age, born=None, taken=None, **columns):
    table = make(len(age), subject=subject, age_low=age, age_high=age, **columns)
    table.frame["dob"] = born or [""] * len(age)
    table.frame["doa"] = taken or [""] * len(age)
    return table


def test_subjects_that_disagree_are_counted_by_hand(face_table):
    table = dated(
        face_table,
        subject=[*"aabbccdd", "", ""],
        age=[30] * 10,
        born=["1970-01-01", "1970-01-02", *["1970-01-01"] * 2, "1970-01-01", "", *[""] * 2, "1970-01-01", ""],
        gender=[0, 0, 0, 1, 0, -1, 1, 1, 0, 1],
        race=[0, 0, 1, 1, 2, 2, 3, 4, 0, 1],
    )
    findings = {finding.kind: finding for finding in disagreeing_subjects(table)}
    assert {kind: finding.examples for kind, finding in findings.items()} == {
        "birth-date": ("a: 1970-01-01, 1970-01-02",),
        "gender": ("b: female, male",),
        "race": (f"d: {', '.join(sorted((RACES[3], RACES[4])))}",),
    }
    assert findings["gender"].groups == ((2, 3),)
    assert findings["gender"].text == "subjects that differ in gender: 1 (2 pictures)"


@pytest.mark.parametrize(
    ("age", "taken", "expected"),
    [
        ([30, 31, 32], ["2000-01-01", "2001-01-01", "2002-01-01"], []),
        ([30, 31, 29], ["2000-01-01", "2001-01-01", "2002-01-01"], ["a: 31 on 2001-01-01, 29 on 2002-01-01"]),
        ([29, 31, 30], ["2002-01-01", "2001-01-01", "2000-01-01"], ["a: 31 on 2001-01-01, 29 on 2002-01-01"]),
        ([31, 30, 32], ["2000-01-01", "2000-01-01", "2002-01-01"], []),  # on one day there is no order
        ([31, 30, 29], ["2000-01-01", "", ""], []),
    ],
)
def test_falling_ages_by_hand(face_table, age, taken, expected):
    table = dated(face_table, subject=["a"] * 3, age=age, taken=taken)
    assert [text for finding in falling_ages(table) for text in finding.examples] == expected


def test_falling_ages_of_strangers_are_nothing(face_table):
    table = dated(face_table, subject=["a", "b", "", ""], age=[30, 20, 50, 40], taken=["2000-01-01"] * 4)
    assert falling_ages(table) == []
    assert falling_ages(face_table(3)) == []


def test_ages_against_dates_by_hand(face_table):
    table = dated(
        face_table,
        subject=["a"] * 4,
        age=[30, 29, 30, 30],
        born=["1970-05-02", "1970-05-02", "1970-05-02", ""],
        taken=["2000-05-02", "2000-05-01", "2000-05-01", "2000-05-02"],
    )
    (finding,) = ages_against_dates(table)
    assert finding.examples == ("made/00002.jpg: 30 years, born 1970-05-02, taken 2000-05-01",)


def test_conflicts_of_copies(face_table):
    table = face_table(5, age_low=[1, 2, 3, 3, 4], age_high=[1, 2, 3, 3, 4], gender=[0, 0, 1, -1, 1])
    (finding,) = conflicting_copies(table, pd.Series(["x", "x", "y", "y", ""]))
    assert finding.groups == ((0, 1),)
    assert conflicting_copies(table, pd.Series([""] * 5)) == []


def test_labels_as_text(face_table):
    table = face_table(
        3, age_low=[1, 25, float("nan")], age_high=[1, 32, float("nan")], gender=[0, 1, -1], race=[0, 1, -1]
    )
    assert describe_labels(table) == ["1, male, white", "25-32, female, black", "?, ?, ?"]
    assert describe_labels(face_table(1, race_classes=())) == ["20, ?"]
