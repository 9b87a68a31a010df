import hashlib
import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from mtmsa_lightning.align.box import BOX, turned_boxes
from mtmsa_lightning.data.datasets.agedb import read_agedb
from mtmsa_lightning.data.face_table import SCHEMA
from mtmsa_lightning.data.splits.split import fold_numbers, make_split
from mtmsa_lightning.data.splits.split_file import apply_split_file, sha256_of
from mtmsa_lightning.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(*lines: str):
        path = tmp_path / "list.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_parts_are_joined_by_id_in_any_order(face_table, write):
    table = face_table(5, split=["test"] * 5, fold=[3] * 5, content=list("abcde"))
    path = write("note,Split,ID", "x,test,00003.jpg", "y, Train ,made/00000.jpg", "z,val,00001.jpg")
    read = apply_split_file(table, path)
    assert read.frame["id"].tolist() == ["made/00000.jpg", "made/00001.jpg", "made/00003.jpg"]
    assert read.frame["split"].tolist() == ["train", "val", "test"]
    assert read.frame["fold"].tolist() == [-1] * 3
    assert read.frame["content"].tolist() == ["a", "b", "d"]
    assert {name: str(kind) for name, kind in read.frame.dtypes.items()} == {
        name: str(kind) for name, kind in table.frame.dtypes.items()
    }
    assert list(read.frame.columns[: len(SCHEMA)]) == list(SCHEMA)
    assert (read.label_rule, read.race_classes) == (table.label_rule, table.race_classes)


def test_a_folder_has_a_list_for_each_part(face_table, tmp_path):
    table = face_table(5)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "utk_train.csv").write_text(",filename,age,database\n0,00001.jpg,3,x\n7,00004.jpg,1,x\n")
    with pytest.raises(
        DataError, match=r"needs lists such as utk_train\.csv and utk_test\.csv, has \['train'\]"
    ):
        apply_split_file(table, lists)
    (lists / "utk_test.csv").write_text("filename,age\n00000.jpg,3\n")
    read = apply_split_file(table, lists).frame.set_index("id")["split"]
    assert dict(read) == {"made/00000.jpg": "test", "made/00001.jpg": "train", "made/00004.jpg": "train"}
    before = sha256_of(lists)
    (lists / "utk_test.csv").write_text("filename,age\n00002.jpg,3\n")
    assert sha256_of(lists) != before
    (lists / "utk_train_test.csv").touch()
    with pytest.raises(DataError, match="one CSV a part"):
        apply_split_file(table, lists)


def test_unlisted_faces_are_reported_and_the_first_table_is_left_alone(face_table, write):
    table = face_table(4)
    read = apply_split_file(table, write("id,split", "00001.jpg,train", "00002.jpg,test"))
    assert [(row.line, row.item, row.reason) for row in read.report.dropped] == [
        (1, "made/00000.jpg", "not in list.csv"),
        (4, "made/00003.jpg", "not in list.csv"),
    ]
    assert (read.report.read, read.report.kept) == (4, 2)
    assert (len(table), table.report.dropped) == (4, [])


def test_folds(face_table, write):
    rows = [f"{row:05d}.jpg,{row % 2}" for row in range(20)]
    read = apply_split_file(face_table(20, split=["train"] * 20), write("id,fold", *rows))
    assert read.frame["fold"].tolist() == [0, 1] * 10
    assert make_split(read, "predefined", fold=1).test.tolist() == list(range(1, 20, 2))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name,split", "00000.jpg,test"], "no column 'id'"),
        (["id,part", "00000.jpg,test"], "either a column 'split' or a column 'fold', has none"),
        (["id,split,fold", "00000.jpg,test,1"], "either a column 'split' or a column 'fold', has"),
        (["id,split,Split", "00000.jpg,test,test"], "either a column 'split' or a column 'fold', has"),
        (["id,split"], "has a header, but no rows"),
        (["id,split", "00000.jpg"], "line 2: 00000.jpg: 1 cells where the header has 2"),
        (
            ["id,split", "00000.jpg,train", "00001.jpg,dev"],
            "line 3: split 'dev' is not one of train, val, test",
        ),
        (["id,split", "00000.jpg,"], "line 2: split '' is not one of train, val, test"),
        (["id,fold", "00000.jpg,-1"], "line 2: fold '-1' is not one of the numbers from 0"),
        (
            ["id,split", "00000.jpg,train", "00000.jpg,test"],
            "1 id is repeated, the first in line 3: '00000.jpg'",
        ),
        (
            ["id,split", "00000.jpg,train", "made/00000.jpg,train"],
            "1 id is repeated, the first in line 3",
        ),
        (
            ["id,split", "00000.jpg,train", *(f"{name}.jpg,test" for name in "abcdef")],
            r"6 of its 7 ids are not in the table of made \(3 faces\), the first in line 3: "
            r"'a.jpg', .*'e.jpg', \.\.\. \(6 in all\)$",
        ),
    ],
)
def test_bad_files_are_named(face_table, write, lines, message):
    with pytest.raises(DataError, match=rf"list\.csv: .*{message}"):
        apply_split_file(face_table(3), write(*lines))


def test_a_file_that_is_not_there(face_table, tmp_path):
    for read in (sha256_of, lambda path: apply_split_file(face_table(3), path)):
        with pytest.raises(DataError, match=r"gone\.csv: cannot be read"):
            read(tmp_path / "gone.csv")


def test_hash(write):
    assert sha256_of(write("id,split")) == hashlib.sha256(b"id,split\n").hexdigest()


@pytest.mark.parametrize(("of_table", "of_file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_ids_are_found_in_any_form(face_table, write, of_table, of_file):
    names = [unicodedata.normalize(of_table, f"{name}.jpg") for name in ("é", "ü")]
    listed = [unicodedata.normalize(of_file, f"{name}.jpg") for name in ("made/é", "ü")]
    table = face_table(2, id=names)
    read = apply_split_file(table, write("id,split", f"{listed[0]},train", f"{listed[1]},test"))
    assert read.frame["id"].tolist() == [f"made/{name}" for name in names]
    assert read.frame["split"].tolist() == ["train", "test"]


ALIGNED = [-57, -95, 372, -83, 360, 346, -69, 334]


def entries(names, folders, **more):
    return [
        {"img_path": name, "folder": folder, "age": 20, **more}
        for name, folder in zip(names, folders, strict=True)
    ]


@pytest.fixture
def benchmark(tmp_path):
    def write(rows):
        path = tmp_path / "database.json"
        path.write_text(json.dumps(rows))
        return path

    return write


def test_folders_of_the_benchmark_are_five_splits(face_table, benchmark):
    table = face_table(20)
    names = [f"Made/made/{name}" for name in table.frame["path"]]
    read = apply_split_file(
        table, benchmark(entries(names, [row % 10 for row in range(20)], aligned_bbox=ALIGNED))
    )
    expected = {  # as the benchmark lists them
        0: ([0, 1, 2, 3, 4, 5], [6, 7], [8, 9]),
        1: ([2, 3, 4, 5, 6, 7], [8, 9], [0, 1]),
        2: ([4, 5, 6, 7, 8, 9], [0, 1], [2, 3]),
        3: ([5, 6, 7, 8, 9, 0], [1, 2], [3, 4]),
        4: ([6, 7, 8, 9, 0, 1], [2, 3], [4, 5]),
    }
    assert fold_numbers(read, "cvpr2024") == (0, 1, 2, 3, 4)
    for fold, parts in expected.items():
        split = make_split(read, "cvpr2024", fold)
        folders = read.frame["fold"]
        found = tuple(sorted(set(folders.iloc[rows])) for rows in (split.train, split.val, split.test))
        assert found == tuple(map(sorted, parts))


def test_three_folders_are_train_val_and_test(face_table, benchmark):
    table = face_table(3)
    read = apply_split_file(table, benchmark(entries(table.frame["path"], [2, 0, 1])))
    split = make_split(read, "cvpr2024")
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([1], [2], [0])
    assert not set(BOX) & set(read.frame)
    with pytest.raises(DataError, match=r"needs the benchmark's folders .* not \[\]: give its JSON file"):
        fold_numbers(table, "cvpr2024")


def test_aligned_boxes_become_face_boxes(face_table, benchmark):
    rows = entries(["00000.jpg", "00001.jpg"], [0, 1], aligned_bbox=ALIGNED)
    rows[1]["aligned_bbox"] = None  # no face was found
    read = apply_split_file(face_table(2), benchmark(rows))
    first, second = read.frame[[*BOX]].to_numpy()
    assert first == pytest.approx(turned_boxes(np.array([ALIGNED], float))[0])
    assert np.isnan(second).all()


def test_a_broken_json_names_what_is_expected(face_table, benchmark):
    rows = entries(["00000.jpg", "00001.jpg"], [0, 1])
    for wrong in (
        {"a": 1},
        [1, 2],
        [{"img_path": "00000.jpg"}],
        [row | {"aligned_bbox": [1, 2]} for row in rows],
    ):
        with pytest.raises(
            DataError, match=r"database\.json: is not a list of objects with img_path, folder"
        ):
            apply_split_file(face_table(2), benchmark(wrong))
    with pytest.raises(DataError, match=r"fold '-1' is not one of the numbers from 0"):
        apply_split_file(face_table(2), benchmark([rows[0], rows[1] | {"folder": -1}]))


def test_names_from_elsewhere_are_found(tmp_path, write):
    names = ["0_MariaCallas_35_f.jpg", "12_ßÕÓ_22_m.jpg", "13_Bob_9_m.JPG"]
    for name in names:
        (tmp_path / "AgeDB").mkdir(exist_ok=True)
        (tmp_path / "AgeDB" / name.replace("JPG", "jpg")).touch()
    table = read_agedb(tmp_path)
    # the list has another folder, the name read by another code page, and another suffix
    path = write("age,path,split", "35,AgeDB/0_MariaCallas_35_f.jpg,train", "22,AgeDB/12_áňÖ_22_m.jpg,val",
                 "9,13_bob_9_m.JPG,test")  # fmt: skip
    parts = apply_split_file(table, path).frame.set_index("number")["split"].to_dict()
    assert parts == {0: "train", 12: "val", 13: "test"}


def test_an_ambiguous_file_name_is_not_guessed(tmp_path, write, face_table):
    frame = face_table(2).frame.assign(id=["made/a/1.jpg", "made/b/1.jpg"])
    table = replace(face_table(2), frame=frame)
    with pytest.raises(DataError, match="1 of its 1 ids are not in the table"):
        apply_split_file(table, write("id,split", "c/1.jpg,test"))
    assert len(apply_split_file(table, write("id,split", "/data/b/1.jpg,test"))) == 1
