import json
from dataclasses import asdict, replace

import compare
import pytest
from common import Row, number, read, record, table, write

SPEED = Row("a/speed", 100, "images/s", "more", "one core")
TIME = Row("a/time", 2.0, "s", "less", "one core", 1.9, 2.2)
TOLD = Row("a/share", 0.1, "%", None)


@pytest.fixture
def verdict(tmp_path, capsys):
    """Compare two lists of rows on the command line; return status and what was printed."""

    def run(before, after, *options, **changed):
        files = []
        for name, rows in (("before", before), ("after", after)):
            found = record(rows, load=0.5)
            if name == "after":
                found |= changed
            files.append(tmp_path / f"{name}.json")
            files[-1].write_text(json.dumps(found))
        status = compare.main([*map(str, files), *options])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (SPEED, 100, 0),
        (SPEED, 80, 0.25),
        (SPEED, 125, -0.2),
        (TIME, 2.5, 0.25),
        (TIME, 1.0, -0.5),
        (TOLD, 9, 0),
    ],
)
def test_worse_is_slower_or_longer(before, after, worse):
    assert compare.worsening(before, replace(before, value=after)) == pytest.approx(worse)


@pytest.mark.parametrize(
    ("speed", "time", "status", "named"),
    [
        (100, 2.0, 0, []),
        (92, 2.19, 0, []),
        (90, 2.0, 1, ["a/speed"]),  # 100 / 90 is 11 % more time
        (100, 2.21, 1, ["a/time"]),
        (50, 4.0, 1, ["a/speed", "a/time"]),
        (200, 1.0, 0, []),
    ],
)
def test_rows_that_got_worse_by_more_than_a_tenth_are_named(verdict, speed, time, status, named):
    after = [replace(SPEED, value=speed), replace(TIME, value=time), replace(TOLD, value=100)]
    found, said = verdict([SPEED, TIME, TOLD], after)
    assert found == status
    assert [line.split()[0] for line in said.splitlines() if line.endswith("WORSE")] == named
    assert f"{len(named)} of 3 rows got worse by more than 10%" in said


def test_the_threshold_can_be_chosen(verdict):
    assert verdict([TIME], [replace(TIME, value=2.9)], "--threshold", "0.5")[0] == 0
    assert verdict([TIME], [replace(TIME, value=2.1)], "--threshold", "0.01")[0] == 1


def test_rows_without_a_counterpart_are_told_and_no_failure(verdict):
    status, said = verdict([SPEED], [TIME])
    assert status == 0
    assert "gone" in next(line for line in said.splitlines() if line.startswith("a/speed"))
    assert "new" in next(line for line in said.splitlines() if line.startswith("a/time"))


def test_rows_of_another_setting_are_not_compared(verdict):
    status, said = verdict([TIME], [replace(TIME, value=20, setting="two cores")])
    assert status == 0
    assert "other setting, not compared" in said


def test_measurements_of_two_machines_are_compared_on_request_only(verdict):
    other = record([], 0)["machine"] | {"processor": "Z80", "cores": 1}
    status, said = verdict([TIME], [replace(TIME, value=20)], machine=other)
    assert status == 2
    assert "-> Z80" in said
    assert verdict([TIME], [replace(TIME, value=20)], "--other_machine", machine=other)[0] == 1


def test_other_versions_are_said(verdict):
    versions = record([], 0)["versions"] | {"torch": "1.0"}
    status, said = verdict([TIME], [TIME], versions=versions)
    assert status == 0
    assert "torch: " in said
    assert "-> 1.0" in said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "rows": [{"nam": 1}]}'])
def test_files_of_something_else_are_told(tmp_path, capsys, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    assert compare.main([str(file), str(file)]) == 2
    assert "other.json" in capsys.readouterr().err


def test_a_file_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "measurements.json"
    write(file, [SPEED, TIME, TOLD], load=1.23, details={"more": [1, 2]})
    found = read(file)
    assert found["rows"] == [SPEED, TIME, TOLD]
    assert (found["load"], found["details"]) == (1.2, {"more": [1, 2]})
    assert found["machine"]["cores"] >= 1
    assert {"python", "torch"} <= found["versions"].keys()
    assert json.loads(file.read_text())["rows"][1] == asdict(TIME)


def test_a_row_of_repeats_has_their_median_and_extremes():
    row = Row.of("x", [3.0, 1.0, 2.0], "s", "less", "here")
    assert (row.value, row.low, row.high) == (2.0, 1.0, 3.0)


def test_the_table_shows_measurements_with_three_digits():
    assert [number(value) for value in (1234.5, 12.345, 0.5, 0.012345, 2)] == [
        "1,234", "12.3", "0.500", "0.0123", "2.00",
    ]  # fmt: skip
    lines = table([SPEED, TIME, TOLD]).splitlines()
    assert lines[2].split() == ["a/time", "2.00", "(1.90-2.20)", "s", "less"]
