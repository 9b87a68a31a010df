import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.data.face_table import SCHEMA, FaceTable, ReadReport, label_kinds, make_frame, parse_ages
from mtmsa_lightning.errors import DataError


def rebuilt(table, race_classes=None, **columns):
    classes = table.race_classes if race_classes is None else race_classes
    return FaceTable(table.frame.assign(**columns), table.root, "made", "made up", classes, table.report)


def test_schema_order_and_dtypes(face_table):
    table = face_table(3)
    assert list(table.frame.columns) == list(SCHEMA)
    assert len(table) == 3
    numeric = {name: str(table.frame[name].dtype) for name, dtype in SCHEMA.items() if dtype != "str"}
    assert numeric == {name: dtype for name, dtype in SCHEMA.items() if dtype != "str"}


def test_extra_columns_come_last(face_table):
    assert list(face_table(2, content=["a", "b"]).frame.columns) == [*SCHEMA, "content"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a", "b", "a"]}, "'id': not unique: row 0 (a): 'a'; row 2"),
        ({"id": ["a", "", "c"]}, "'id': empty: row 1"),
        ({"path": ["a", "/b", "c"]}, "'path': not relative with forward slashes: row 1"),
        ({"path": ["a", "b\\c", "c"]}, "'path': not relative with forward slashes: row 1"),
        (
            {"age_low": [1.0, np.nan, 3.0], "age_high": [1.0, 2.0, 3.0]},
            "'age_low': one bound without the other",
        ),
        ({"age_low": [5.0, 2.0, 3.0], "age_high": [4.0, 2.0, 3.0]}, "'age_low': above age_high: row 0"),
        ({"age_high": [131.0, 130.0, 130.0]}, "'age_high': not a whole number from 0 to 130: row 0"),
        ({"age_low": [1.5, 2.0, 3.0]}, "'age_low': not a whole number"),
        ({"age_low": [-1.0, 2.0, 3.0]}, "'age_low': not a whole number"),
        ({"gender": [0, 1, 2]}, "'gender': not an index of ('male', 'female'): row 2"),
        ({"race": [0, 6, -1]}, "'race': not an index of"),
        ({"fold": [-2, 0, 0]}, "'fold': below -1"),
        ({"split": ["train", "", "dev"]}, "'split': not one of ('train', 'val', 'test') or empty: row 2"),
        ({"subject": ["a", None, "c"]}, "'subject': missing text: row 1"),
        ({"gender": [0.0, 1.0, 1.0]}, "'gender': dtype float64, expected int64"),
    ],
)
def test_validation_names_column_and_rows(face_table, columns, message):
    with pytest.raises(DataError) as error:
        rebuilt(face_table(3), **columns)
    assert message in str(error.value)


def test_validation_shows_at_most_ten_rows(face_table):
    with pytest.raises(DataError, match="and 15 more") as error:
        rebuilt(face_table(25), gender=np.full(25, 7))
    assert str(error.value).count("row ") == 10


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("White", "white"), "'White', 'white' are one name"),
        (("East Asian", "b", "east_asian"), "'East Asian', 'east_asian' are one name"),
        (("a", ""), "'': a name needs printable"),
        ((" a",), "' a': a name needs printable"),
        (("a\tb",), "a name needs printable"),
    ],
)
def test_race_classes_are_distinct_names(face_table, classes, message):
    with pytest.raises(DataError, match=message):
        rebuilt(face_table(2), race_classes=classes)


def test_race_classes_may_be_any_names_in_any_order(face_table):
    own = ("Wei\u00df", "East Asian", "black", "Latino_Hispanic", "other", "x", "y")
    assert rebuilt(face_table(2), race_classes=own).race_classes == own


def test_missing_or_moved_column(face_table):
    table = face_table(2)
    with pytest.raises(DataError, match="do not start with"):
        FaceTable(table.frame.drop(columns="fold"), table.root, "made", "made up", (), table.report)


def test_repeated_ids_are_numbered():
    rows = pd.DataFrame({"id": ["x", "y", "x", "x"], "path": "p", "age_low": 1, "age_high": 1})
    assert make_frame(rows, "d")["id"].tolist() == ["d/x", "d/y", "d/x#2", "d/x#3"]


def test_parse_ages():
    legal = {"25": 25, "0": 0, "130": 130, "3.5": 3.5, "25.0": 25, "007": 7}
    wrong = [
        "131",
        "-1",
        "x",
        "",
        "nan",
        "inf",
        "1e1",
        "0x1f",
        "+25",
        " 25",
        "25 ",
        "25.",
        ".5",
        "\uff12\uff15",
        "1_0",
        "25\n",
    ]
    wrong += ["2 5", "1,5", "\u0662\u0665", "9" * 400]
    ages = parse_ages(pd.Series([*legal, *wrong], dtype="str"))
    np.testing.assert_equal(ages.to_numpy(), [*legal.values(), *[np.nan] * len(wrong)])


def test_report_reads_as_text():
    report = ReadReport("table.csv", read=55_134)
    for line in range(12, 0, -1):
        report.drop(line, f"{line}.jpg", "file not found")
    report.drop(99, "z.jpg", "no age")
    report.note(5, "5.jpg", "odd name")
    text = str(report)
    assert text.startswith(
        "table.csv: read 55,134, kept 55,121, dropped 13: file not found x12, no age x1\n  line 1: 1.jpg: "
    )
    assert text.count("\n  line") == 10
    assert "... and 3 more" in text
    assert text.endswith("kept with a remark 1: odd name x1")
    assert report.reasons() == {"file not found": 12, "no age": 1}


def test_finish():
    report = ReadReport("t", read=2)
    report.finish(strict=True)
    report.drop(1, "a", "why")
    report.finish(strict=False)
    with pytest.raises(DataError, match="line 1: a: why"):
        report.finish(strict=True)
    report.drop(2, "b", "why")
    with pytest.raises(DataError, match="no usable face"):
        report.finish(strict=False)


def test_drop_rows_keeps_line_numbers():
    rows = pd.DataFrame({"name": ["a", "b", "c"]}, index=[2, 3, 3])
    report = ReadReport("t", read=3)
    left = report.drop_rows(rows, pd.Series([False, True, False]), "name", "bad")
    assert left["name"].tolist() == ["a", "c"]
    assert report.dropped == [(3, "b", "bad")]


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({}, {"age", "exact"}),
        ({"age_high": [25, 99]}, {"age", "group"}),
        ({"age_high": [20, 99], "gender": [-1, 0]}, {"age", "exact", "group", "gender"}),
        ({"age_low": [np.nan] * 2, "age_high": [np.nan] * 2, "race": [0, -1]}, {"race"}),
    ],
)
def test_label_kinds(face_table, columns, kinds):
    assert label_kinds(face_table(2, **columns).frame) == kinds
    assert label_kinds(face_table(2, **columns).frame.iloc[:0]) == set()
