import hashlib

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning import MORPH, UTKFace
from mtmsa_lightning.data.datasets.morph import read_morph
from mtmsa_lightning.data.face_table import SCHEMA, FaceTable
from mtmsa_lightning.data.splits.cleaning import RULES, check_rules, clean
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.data.synthetic import write_utkface
from mtmsa_lightning.data.tables.dates import years_between
from mtmsa_lightning.errors import ConfigError, DataError

BIRTHDATE = "morph:consensus-birthdate"


def dated(make, rows, **columns):
    """Make a table of (subject, dob, doa, age) rows."""
    subject, born, taken, ages = zip(*rows, strict=True)
    table = make(len(rows), subject=subject, age_low=ages, age_high=ages, **columns)
    table.frame["dob"], table.frame["doa"] = list(born), list(taken)
    return table


def labels(table: FaceTable, *columns: str) -> dict:
    """Return the columns of every face by its number."""
    names = table.frame["id"].str.extract(r"(\d+)\.jpg")[0].astype(int)
    return dict(zip(names, table.frame[[*columns]].itertuples(index=False, name=None), strict=True))


# ---------------------------------------------------------------------------- birth dates


@pytest.mark.parametrize(
    ("rows", "kept", "dropped"),
    [
        # two of three pictures say 1970-05-01; the third was born 40 days earlier and turns younger
        (
            [
                ("a", "1970-05-01", "2000-05-02", 30),
                ("a", "1970-05-01", "2001-05-02", 31),
                ("a", "1970-03-22", "2002-04-01", 32),
            ],
            {0: ("1970-05-01", 30), 1: ("1970-05-01", 31), 2: ("1970-05-01", 31)},
            {},
        ),
        # the third lies twelve years away: another person, or a slip in the year
        (
            [
                ("a", "1970-05-01", "2000-05-02", 30),
                ("a", "1970-05-01", "2001-05-02", 31),
                ("a", "1958-05-01", "2002-05-02", 44),
            ],
            {0: ("1970-05-01", 30), 1: ("1970-05-01", 31)},
            {"birth date far from the subject's consensus": 1},
        ),
        # one against one: nobody knows; the other subject is not touched
        (
            [
                ("a", "1970-05-01", "2000-05-02", 30),
                ("a", "1970-05-02", "2000-06-02", 30),
                ("b", "1980-01-01", "2000-05-02", 20),
            ],
            {2: ("1980-01-01", 20)},
            {"no consensus birth date of the subject": 2},
        ),
        # exactly 366 days (a leap year lies between) is still a slip; 367 is not
        (
            [
                ("a", "1972-01-01", "2000-01-01", 28),
                ("a", "1972-01-01", "2000-01-01", 28),
                ("a", "1973-01-01", "2000-01-01", 27),
                ("a", "1973-01-02", "2000-01-01", 26),
            ],
            {0: ("1972-01-01", 28), 1: ("1972-01-01", 28), 2: ("1972-01-01", 28)},
            {"birth date far from the subject's consensus": 1},
        ),
        # without the day of the picture its age cannot be recomputed; without a birth date nothing is known
        (
            [
                ("a", "1970-05-01", "2000-05-02", 30),
                ("a", "1970-05-01", "", 31),
                ("a", "1970-05-02", "", 32),
                ("a", "", "2000-05-02", 33),
            ],
            {0: ("1970-05-01", 30), 1: ("1970-05-01", 31), 2: ("1970-05-02", 32), 3: ("", 33)},
            {},
        ),
        # nor is such a picture dropped where there is no consensus
        (
            [
                ("a", "1970-05-01", "2000-05-02", 30),
                ("a", "1980-05-01", "2000-13-02", 32),
            ],
            {1: ("1980-05-01", 32)},
            {"no consensus birth date of the subject": 1},
        ),
        # a consensus that makes a picture's age impossible
        (
            [
                ("a", "1999-12-31", "2000-05-02", 0),
                ("a", "1999-12-31", "2001-05-02", 1),
                ("a", "1999-05-02", "1999-06-02", 0),
            ],
            {0: ("1999-12-31", 0), 1: ("1999-12-31", 1)},
            {"birth date far from the subject's consensus": 1},
        ),
    ],
)
def test_consensus_birthdate_by_hand(face_table, rows, kept, dropped):
    table = dated(face_table, rows)
    before = table.frame.copy()
    cleaned = clean(table, [BIRTHDATE])
    assert labels(cleaned, "dob", "age_low") == kept
    assert cleaned.frame["age_low"].equals(cleaned.frame["age_high"])
    assert dict(cleaned.report.reasons()) == dropped
    assert cleaned.report.kept == len(kept)
    assert list(cleaned.frame.columns) == [*SCHEMA, "dob", "doa"]
    pd.testing.assert_frame_equal(table.frame, before)
    assert not table.report.dropped


def test_consensus_birthdate_says_what_it_changed(face_table):
    rows = [("a", "1970-05-01", "2000-05-02", 30)] * 2 + [("a", "1970-05-03", "2000-05-02", 29)]
    report = clean(dated(face_table, rows), [BIRTHDATE]).report
    ((line, item, reason),) = report.notes
    assert (line, item) == (3, "made/00002.jpg")
    assert "consensus" in reason


def test_consensus_birthdate_needs_dates_and_subjects(face_table):
    with pytest.raises(DataError, match="needs columns dob, doa"):
        clean(face_table(3, subject=["a"] * 3), [BIRTHDATE])
    with pytest.raises(DataError, match="needs subjects"):
        clean(dated(face_table, [("", "1970-05-01", "2000-05-02", 30)]), [BIRTHDATE])


def test_a_rule_that_leaves_no_face_is_an_error(face_table):
    rows = [("a", "1970-05-01", "2000-05-02", 30), ("a", "1970-05-02", "2000-05-02", 29)]
    with pytest.raises(DataError, match="no face is left"):
        clean(dated(face_table, rows), [BIRTHDATE])


def test_completed_years_turn_on_the_birthday():
    def dates(*texts):
        return pd.Series(pd.to_datetime(list(texts), errors="coerce"))

    born = dates("1980-02-29", "1980-02-29", "1980-02-29", "1980-06-15", "1980-06-15", "")
    day = dates("2001-02-28", "2001-03-01", "2004-02-29", "2000-06-14", "2000-06-15", "2000-01-01")
    np.testing.assert_array_equal(years_between(born, day), [20, 21, 24, 19, 20, np.nan])


# ---------------------------------------------------------------------------- classes


@pytest.mark.parametrize("column", ["gender", "race"])
def test_consensus_of_a_class_by_hand(face_table, column):
    subject = [*"aaa", *"bb", "c", *"ddd", "", ""]
    given = [0, 0, 1, 0, 1, 1, 1, -1, -1, 0, 1]  # b is undecided, of d only one is known, the last are nobody
    table = clean(face_table(11, subject=subject, **{column: given}), [f"consensus-{column}"])
    assert table.frame[column].tolist() == [0, 0, 0, -1, -1, 1, 1, -1, -1, 0, 1]
    assert [note.line for note in table.report.notes] == [3, 4, 5]
    assert not table.report.dropped


# ---------------------------------------------------------------------------- copies


def test_conflicting_copies_are_dropped_together(face_table):
    content = ["x", "x", "y", "y", "z", "", "", "u", "u", "w", "w"]
    age = [20, 21, 30, 30, 40, 50, 51, 60, 60, 70, 70]
    gender = [
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        -1,
    ]  # x differs in age, u in gender; an unknown one agrees with all
    table = clean(
        face_table(11, content=content, age_low=age, age_high=age, gender=gender), ["drop-conflicting"]
    )
    assert sorted(labels(table, "gender")) == [2, 3, 4, 5, 6, 9, 10]
    assert dict(table.report.reasons()) == {"exact copies carry conflicting labels": 4}
    assert [remark.line for remark in table.report.dropped] == [1, 2, 8, 9]


def test_one_of_equal_pictures_stays_whatever_the_order(face_table):
    table = face_table(6, content=["x", "y", "x", "", "", "y"])
    assert sorted(labels(clean(table, ["drop-duplicates"]), "gender")) == [0, 1, 3, 4]
    table.frame[:] = table.frame.iloc[::-1].to_numpy(object)
    again = FaceTable(table.frame.astype(SCHEMA), *list(vars(table).values())[1:])
    assert sorted(labels(clean(again, ["drop-duplicates"]), "gender")) == [0, 1, 3, 4]


def test_bytes_are_compared_where_the_table_has_no_hashes(face_table, tmp_path, touch):
    touch(tmp_path, ["00000.jpg", "00002.jpg"])
    (tmp_path / "00001.jpg").write_bytes((tmp_path / "00000.jpg").read_bytes())
    made = face_table(3, subject=["a", "b", "c"])
    table = FaceTable(made.frame, tmp_path, *list(vars(made).values())[2:])
    cleaned = clean(table, ["drop-duplicates"])
    assert sorted(labels(cleaned, "gender")) == [0, 2]
    assert list(cleaned.frame.columns) == list(SCHEMA)


# ---------------------------------------------------------------------------- names and records


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["drop-duplicate"],
            r"no rule 'drop-duplicate' \(did you mean 'drop-duplicates'\?\); known: .*morph:",
        ),
        (["drop-duplicates@2"], "has drop-duplicates@1, not drop-duplicates@2"),
        (["drop-duplicates", "drop-duplicates@1"], "is given twice"),
        ("drop-duplicates", r"takes a list of rules: \[drop-duplicates\]"),
    ],
)
def test_rules_are_checked_before_anything_is_read(names, said):
    with pytest.raises(ConfigError, match=said):
        check_rules(names)
    with pytest.raises(ConfigError, match=said):
        MORPH(root="nowhere", clean=names)


def test_every_rule_says_what_it_does():
    assert set(RULES) == {
        "morph:consensus-birthdate", "consensus-gender", "consensus-race", "drop-conflicting",
        "drop-duplicates",
    }  # fmt: skip
    assert all(rule.apply.__doc__ for rule in RULES.values())


def test_rules_are_recorded_with_versions_and_change_the_fingerprints(face_table):
    plain = face_table(40, content=[f"{index}" for index in range(40)])
    rules = ["drop-conflicting", "drop-duplicates@1"]
    table = clean(plain, rules)
    assert table.cleaning == ("drop-conflicting@1", "drop-duplicates@1")
    assert table.label_rule == "made up; cleaned by drop-conflicting@1; cleaned by drop-duplicates@1"
    before, after = make_split(plain, "random"), make_split(table, "random")
    assert "cleaning" not in before.fingerprints
    text = "drop-conflicting@1\ndrop-duplicates@1"
    assert after.fingerprints == before.fingerprints | {
        "cleaning": hashlib.sha256(text.encode()).hexdigest()
    }, "nothing was there to drop, yet the split says what was asked for"
    assert "cleaned by drop-conflicting@1, drop-duplicates@1" in after.summary()


def test_a_datamodule_cleans_and_says_so(tmp_path):
    write_utkface(tmp_path, n_faces=30, size=64)
    data = UTKFace(root=str(tmp_path), clean=["drop-conflicting", "drop-duplicates"])
    plain = UTKFace(root=str(tmp_path))
    assert len(plain.table) == 32  # 30 pictures and three copies, one name lacks a field
    assert len(data.table) == 28  # the conflicting pair goes, and one of two pairs each
    assert not data.table.frame["content"].duplicated().any()
    record = data.provenance()
    assert record["cleaning"] == ["drop-conflicting@1", "drop-duplicates@1"]
    assert record["label_rule"].startswith("utkface file names; cleaned by drop-conflicting@1")
    assert record["rows"]["dropped"]["exact copies carry conflicting labels"] == 2
    assert record["fingerprints"]["cleaning"]
    assert data.split.fingerprints["labels"] != plain.split.fingerprints["labels"]


def test_the_synthetic_subject_with_two_birth_dates_is_found(morph_root):
    plain = read_morph(morph_root)
    cleaned = clean(plain, [BIRTHDATE, "consensus-race"])
    assert dict(cleaned.report.reasons()) == {"no consensus birth date of the subject": 2}
    assert set(plain.frame["id"]) - set(cleaned.frame["id"]) == set(
        plain.frame["id"][plain.frame["subject"] == "000001"]
    )
