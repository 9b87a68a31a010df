import json
import os
import unicodedata

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning import FaceCSV
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.prepared.format import (
    is_prepared,
    preparation,
    read_description,
    read_prepared,
    skipped,
)
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.inference.inputs import find_inputs
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


def test_what_the_reader_and_the_preparation_skipped_is_counted_together(prepared, tmp_path_factory):
    change(prepared, release={"read": 9, "dropped": {"file not found": 2, "name lacks a field": 1}})
    rows = "position,id,source,reason\n3,a,a.jpg,file not found\n4,b,b.jpg,no face found\n"
    (prepared / "skipped.csv").write_text(rows)
    assert skipped(prepared) == {"file not found": 3, "name lacks a field": 1, "no face found": 1}
    assert preparation(prepared)["release"]["read"] == 9
    raw = tmp_path_factory.mktemp("raw")
    assert skipped(raw) == {}
    assert preparation(raw) is None


@pytest.mark.parametrize("pixels", [True, False])
def test_a_copy_that_changed_the_form_of_names_is_the_same_set(tmp_path, draw, pixels):
    names = [f"Zoë{row}/Ünal.png" for row in range(3)]
    for row, name in enumerate(names):
        file = tmp_path / "release" / unicodedata.normalize("NFC", name)
        file.parent.mkdir(parents=True)
        file.write_bytes(cv2.imencode(".png", draw(row, 80))[1].tobytes())
    rows = "".join(f"{unicodedata.normalize('NFD', name)},30\n" for name in names)
    (tmp_path / "release" / "faces.csv").write_text(f"path,age\n{rows}")
    out = tmp_path / "set"
    options = [
        "--size",
        "64",
        "--num_workers",
        "1",
        "--detect=false",
        "--pixels=true" if pixels else "--pixels=false",
    ]
    main(["prepare", "--data", "csv", "--root", str(tmp_path / "release"), "--out", str(out), *options])
    faces = [face(out, row) for row in range(3)]
    for path in sorted((out / "crops").rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize("NFC", path.name)))
    if [path.name for path in (out / "crops").iterdir()] == [unicodedata.normalize("NFD", "Zoë0")]:
        pytest.skip("this file system chooses the form of names itself")
    for row, (table_id, image) in enumerate(faces):
        again = face(out, row)
        assert again[0] == table_id
        np.testing.assert_array_equal(again[1], image)
        np.testing.assert_array_equal(find_inputs([out])[row].read(), image)


def face(root, row):
    """Return the id of a row of a prepared set, and its image as training reads it."""
    data = FaceCSV(root=str(root), num_workers=0, image_size=64, protocol="whole")
    data.setup("test")
    return data.table.frame["id"][row], data.test_dataset[row]["image"]


@pytest.mark.parametrize("name", ["../faces.parquet", "/faces.parquet", "deeper/faces.parquet"])
def test_the_table_lies_beside_its_description(prepared, name):
    change(prepared, table=name)
    with pytest.raises(DataError, match="must be the name of a file beside it"):
        read_prepared(prepared, "made")


@pytest.mark.parametrize("how", ["above", "absolute", "link", "linked folder", "linked table"])
def test_nothing_outside_of_a_set_is_read(prepared, table, tmp_path_factory, how):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x.jpg").write_bytes(b"")
    frame = table.frame.copy()
    names = {
        "above": f"../{elsewhere.name}/x.jpg", "absolute": str(elsewhere / "x.jpg"), "link": "link.jpg",
        "linked folder": "folder/x.jpg", "linked table": frame.loc[0, "path"],
    }  # fmt: skip
    frame.loc[0, "path"] = names[how]
    (prepared / "link.jpg").symlink_to(elsewhere / "x.jpg")
    (prepared / "folder").symlink_to(elsewhere)
    if how == "linked table":
        (prepared / "faces.parquet").unlink()
        (prepared / "faces.parquet").symlink_to(elsewhere / "faces.parquet")
    frame.to_parquet(prepared / "faces.parquet")
    with pytest.raises(DataError, match="paths are outside of this folder"):
        read_prepared(prepared, "made")


def test_a_pipe_in_place_of_the_description_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(DataError, match="not a regular file"):
        read_description(tmp_path)
