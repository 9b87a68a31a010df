import json

import pandas as pd
import pytest

from mtmsa_lightning.data.prepared import is_prepared, left_out, preparation, read_prepared
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import RACES


@pytest.fixture
def table(face_table):
    return face_table(4, content=list("abcd"), subject=["s", "", "s", "t"])


@pytest.fixture
def prepared(tmp_path, table, touch):
    touch(tmp_path, table.frame["path"])
    table.frame.to_parquet(tmp_path / "faces.parquet")
    record = {
        "format_version": 1,
        "dataset": "made",
        "label_rule": "made up",
        "race_classes": list(RACES),
        "table": "faces.parquet",
        "crop": {"margin": 0.4},
        "counts": {"faces": 4},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    return tmp_path


def change(root, **entries):
    record = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(record | entries))


def test_the_table_comes_back_unchanged(prepared, table):
    read = read_prepared(prepared, "made")
    pd.testing.assert_frame_equal(read.frame, table.frame)
    assert (read.root, read.label_rule, read.race_classes) == (prepared, "made up", RACES)
    assert (read.report.read, read.report.kept) == (4, 4)
    assert read_prepared(prepared, "made", "made up").dataset == "made"


def test_is_prepared(prepared, tmp_path):
    assert is_prepared(prepared)
    assert not is_prepared(tmp_path / "gone")


def test_wrong_dataset_or_label_rule(prepared):
    with pytest.raises(DataError, match="has dataset 'made', not 'morph'"):
        read_prepared(prepared, "morph")
    with pytest.raises(DataError, match="has label_rule 'made up', not 'adience extended'"):
        read_prepared(prepared, "made", "adience extended")


def test_newer_format(prepared):
    change(prepared, format_version=2)
    with pytest.raises(DataError, match=r"format 2 is newer.*update"):
        read_prepared(prepared, "made")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset.json", "{"),
        ("dataset.json", "[]"),
        ("dataset.json", "{}"),
        ("dataset.json", '{"format_version": 1, "dataset": 3}'),
        ("faces.parquet", "not parquet"),
        ("faces.parquet", None),
        ("00002.jpg", None),
    ],
)
def test_damage_says_what_to_do(prepared, name, content):
    (prepared / name).unlink()
    if content is not None:
        (prepared / name).write_text(content)
    with pytest.raises(DataError, match="run `mtmsa prepare` again"):
        read_prepared(prepared, "made")


def test_table_without_a_column(prepared):
    path = prepared / "faces.parquet"
    pd.read_parquet(path).drop(columns="race").to_parquet(path)
    with pytest.raises(DataError, match=r"columns \['race'\] are missing"):
        read_prepared(prepared, "made")


def test_what_the_reader_and_the_preparation_left_out_is_counted_together(prepared, tmp_path_factory):
    change(prepared, release={"read": 9, "dropped": {"file not found": 2, "name lacks a field": 1}})
    rows = "position,id,source,reason\n3,a,a.jpg,file not found\n4,b,b.jpg,no face found\n"
    (prepared / "left_out.csv").write_text(rows)
    assert left_out(prepared) == {"file not found": 3, "name lacks a field": 1, "no face found": 1}
    assert preparation(prepared)["release"]["read"] == 9
    raw = tmp_path_factory.mktemp("raw")
    assert left_out(raw) == {}
    assert preparation(raw) is None
