from pathlib import Path

import pandas as pd
import pytest

from mtmsa_lightning.data.tables.classes import apply_maps, check_codes, class_names, parse_classes
from mtmsa_lightning.errors import DataError

PATH = Path("t.csv")


def column(*texts, name="race"):
    return pd.Series(texts, index=range(2, 2 + len(texts)), name=name, dtype="str")


def test_texts_and_codes_get_their_stated_meaning():
    rows = pd.DataFrame({"gender": column("0", "1.0", "2", "x"), "age": column("0", "1", "8", "9")})
    maps = {"gender": {0: "female", "1": "male", 2: None}, "age": {0: "0-2", 1: "3-9", 8: "more than 70"}}
    found = apply_maps(rows, maps, PATH, ("age", "gender"))
    assert found["gender"].tolist() == ["female", "male", "", "x"]
    assert found["age"].tolist() == ["0-2", "3-9", "more than 70", "9"]


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"sex": {0: "m"}}, "labels: 'sex'"),
        ({"gender": "female"}, "labels: 'gender' must be one of age, gender, race, split with a map"),
        ({"split": {"dev": "val"}}, "t.csv: labels: the table has no column of split"),
    ],
)
def test_wrong_maps_are_named(maps, message):
    with pytest.raises(DataError, match=message):
        apply_maps(pd.DataFrame({"gender": column("0")}), maps, PATH, ("gender",))


@pytest.mark.parametrize("code", ["0", "1.0", "-2", "12"])
def test_codes_without_a_meaning_show_how_to_state_it(code):
    with pytest.raises(DataError) as caught:
        check_codes(column("f", code, name="gender"), PATH, ("female", "male"))
    assert str(caught.value) == (
        f"t.csv: line 3: gender '{code}' is a code, whose meaning differs between tables: state it, e.g. "
        f"--data.labels '{{gender: {{{code}: female}}}}'"
    )


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["other", "White", "white"], ("white", "other")),
        (["White", "East Asian", "east_asian", "East Asian"], ("East Asian", "White")),
        (["", ""], ()),
        (["b", "B", "a"], ("a", "B")),
    ],
)
def test_class_names_of_a_column(texts, names):
    assert class_names(column(*texts)) == names


def test_classes_are_found_in_any_spelling():
    names = ("East Asian", "Latino_Hispanic")
    assert parse_classes(column("latino hispanic", "", "EAST-ASIAN"), names, PATH) == [1, -1, 0]
    with pytest.raises(
        DataError, match=r"line 2: race 'green' is not one of East Asian, .*\"green\": East As"
    ):
        parse_classes(column("green"), names, PATH)
