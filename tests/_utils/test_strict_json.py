import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mtmsa_lightning
from mtmsa_lightning._utils.strict_json import csv_cell, from_json, to_json
from mtmsa_lightning.runs.run_json import partial_note, read_record, update_record

INF, NAN = math.inf, math.nan
PACKAGE = Path(mtmsa_lightning.__file__).parent


def strict(text):
    """Read as a strict reader does."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_number_that_is_not_finite_is_null_beside_its_text():
    values = {"a": {"val/mae": NAN, "val/loss": 1.5, "low": -INF}, "curve": {"share": [0.5, INF, [NAN]]}}
    assert strict(to_json(values)) == {
        "a": {"val/mae": None, "val/loss": 1.5, "low": None, "not_finite": {"val/mae": "nan", "low": "-inf"}},
        "curve": {"share": [0.5, None, [None]], "not_finite": {"share[1]": "inf", "share[2][0]": "nan"}},
    }


@pytest.mark.parametrize(
    "values",
    [
        {"a": 1, "b": [1, {"c": INF, "d": None}], "e": "nan", "f": True},
        {"0.9": -INF, "name[3]": 2.0, "odd\nname": INF, "list": [[INF, 0.0], [1.0, -INF]]},
        {},
    ],
)
def test_what_was_written_is_read_back(values):
    assert from_json(to_json(values)) == values
    assert from_json(to_json(values, indent=2, ensure_ascii=False)) == values


def test_nan_and_numbers_of_numpy_are_read_back():
    found = from_json(to_json({"a": np.float64(NAN), "b": np.float64(0.25), "c": (1, NAN)}))
    assert math.isnan(found["a"])
    assert found["b"] == 0.25
    assert math.isnan(found["c"][1])


def test_a_number_without_a_place_is_refused():
    for values in (NAN, [INF]):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json(values)


def test_a_record_keeps_what_is_not_finite_when_it_is_added_to(tmp_path):
    update_record(tmp_path, {"test": {"test/age_mae": NAN, "test/age_width95": INF}})
    update_record(tmp_path, {"finished": "now"})
    found = read_record(tmp_path)["test"]
    assert math.isnan(found["test/age_mae"])
    assert found["test/age_width95"] == INF
    assert strict((tmp_path / "run.json").read_text())["test"]["not_finite"]["test/age_mae"] == "nan"


def test_cells_of_a_csv_are_read_back_by_pandas(tmp_path):
    column = [csv_cell(value) for value in (1.5, NAN, INF, None)]
    file = tmp_path / "table.csv"
    pd.DataFrame({"row": [1, 2, 3, 4], "metric": column}).to_csv(file, index=False)
    assert file.read_text().splitlines()[1:] == ["1,1.5", "2,nan", "3,inf", "4,"]
    np.testing.assert_array_equal(pd.read_csv(file)["metric"], [1.5, NAN, INF, NAN])


def test_all_json_that_the_package_writes_is_strict():
    """Except for texts that the parser of the command line reads, where infinity is a setting."""
    allowed = {"configs.py", "build_data.py", "data_arguments.py", "module.py", "status.py"}
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name not in allowed and re.search(r"\bjson\.dumps?\(", text):
            assert "allow_nan=False" in text, file
        assert file.name == "comparison.py" or ".to_json(" not in text, file


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (None, ""),
        ({"val": {"faces": 1, "unreadable": 0, "of": 5}}, ""),
        ({"test": {"faces": 5, "unreadable": 0, "of": 5}}, ""),
        ({"test": {"faces": 4, "unreadable": 1, "of": 5}}, ""),
        (
            {"test": {"faces": 1200, "unreadable": 1, "of": 2000}},
            "partial: 1,200 of 2,000 faces of the test part",
        ),
    ],
)
def test_a_result_on_part_of_a_part_is_told(seen, said):
    assert partial_note({} if seen is None else {"seen": seen}, "test") == said
