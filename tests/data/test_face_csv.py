import json

import numpy as np
import pytest

from mtmsa_lightning.cli import main
from mtmsa_lightning.data.face_csv import FaceCSV, read_face_csv
from mtmsa_lightning.datasets import build_data
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import RACES


@pytest.fixture
def folder(tmp_path, touch):
    touch(tmp_path, [f"img/{name}.jpg" for name in "abcde"])

    def write(text, name="faces.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_all_columns(folder):
    root = folder(
        "path,age,gender,race,subject,fold,split\n"
        "img/a.jpg,30,Male,White,s1,0,train\n"
        "./img/b.JPG,,F,,s2,,\n"
        "img\\c.jpg,7.9,1,HISPANIC,s1,4,Validation\n"
        "img/d.jpg,0,-1,-1,,-1,test\n"
    )
    table = read_face_csv(root)
    frame = table.frame
    assert frame["id"].tolist() == ["csv/img/a.jpg", "csv/img/b.JPG", "csv/img/c.jpg", "csv/img/d.jpg"]
    assert frame["path"].tolist() == [f"img/{name}.jpg" for name in "abcd"]
    np.testing.assert_equal(frame["age_low"].to_numpy(), [30, np.nan, 7, 0])
    assert frame["gender"].tolist() == [0, 1, 1, -1]
    assert frame["race"].tolist() == [0, -1, RACES.index("hispanic"), -1]
    assert frame["subject"].tolist() == ["s1", "s2", "s1", ""]
    assert frame["fold"].tolist() == [0, -1, 4, -1]
    assert frame["split"].tolist() == ["train", "", "val", "test"]
    assert "content" not in frame
    assert [(note.line, note.reason) for note in table.report.notes] == [(4, "age cut to completed years")]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_delimiters_and_pair_of_ages(folder, delimiter):
    text = "path,age_low,age_high\nimg/a.jpg,25,32\nimg/b.jpg,,\n".replace(",", delimiter)
    frame = read_face_csv(folder(text)).frame
    assert (frame["age_low"].iloc[0], frame["age_high"].iloc[0]) == (25, 32)
    assert frame["age_low"].isna().tolist() == frame["age_high"].isna().tolist() == [False, True]


def test_own_column_names(folder):
    text = "File;Years;sex;gender;note\nimg/a.jpg;20;m;nonsense;x\n"
    columns = {"path": "file", "age": "Years", "gender": "sex"}
    table = read_face_csv(folder(text, "t.txt"), "t.txt", columns, dataset="mine", race_classes=())
    assert table.frame["gender"].tolist() == [0]
    assert table.frame["id"].tolist() == ["mine/img/a.jpg"]
    assert (table.dataset, table.label_rule, table.race_classes) == ("mine", "mine table columns", ())


def test_absolute_paths_below_the_root(folder):
    root = folder("")
    folder(f"path,age\n{root}/img/a.jpg,20\n{root.parent}/z.jpg,20\n")
    table = read_face_csv(root)
    assert table.frame["id"].tolist() == ["csv/img/a.jpg"]
    assert table.report.reasons() == {"absolute path outside the root": 1}


def test_content_hash_without_subjects(folder):
    root = folder("path,age\nimg/a.jpg,20\nimg/a.jpg,20\nimg/b.jpg,20\n")
    frame = read_face_csv(root).frame
    assert frame["content"].nunique() == 2
    assert frame["id"].tolist() == ["csv/img/a.jpg", "csv/img/a.jpg#2", "csv/img/b.jpg"]


def test_rows_that_cannot_be_labelled_are_dropped(folder):
    root = folder(
        "path,age_low,age_high,fold\nimg/a.jpg,x,3,\nimg/b.jpg,9,3,\nimg/c.jpg,9,,\nimg/d.jpg,1,2,one\n"
        "gone.jpg,1,2,\nimg/e.jpg,1,200,\nimg/e.jpg,1,2,3\n"
    )
    report = read_face_csv(root).report
    assert [row.line for row in sorted(report.dropped)] == [2, 3, 4, 5, 6, 7]
    assert report.kept == 1
    with pytest.raises(DataError, match="age_low is above age_high x1"):
        read_face_csv(root, strict=True)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "path,age,gender",
            "img/a.jpg,3,femail",
            "line 3: gender 'femail' is none of male, m, 0, female, f, 1",
        ),
        ("path,age,race", "img/a.jpg,3,green", "line 3: race 'green' is none of white, black"),
        ("path,age,race", "img/a.jpg,3,0", "line 3: race '0' is none of"),
        ("path,age,split", "img/a.jpg,3,dev", "line 3: split 'dev' is none of train"),
    ],
)
def test_words_outside_the_vocabulary_are_errors(folder, header, row, message):
    with pytest.raises(DataError, match=message):
        read_face_csv(folder(f"{header}\n\n{row}\n"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,age", "no column 'path'"),
        ("path,ages", r"no column 'age' \(nor age_low and age_high\); 'ages' looks like it: .*'{age: ages}'"),
        (
            "path,agee",
            r"no column 'age' .*another column holds it \(did you mean 'agee'\?\): .*'{age: years}'",
        ),
        (
            "path,race",
            r"no column 'age' \(nor age_low and age_high\); if another .*: --data.columns '{age: years}'",
        ),
        ("path,age_low", "no column 'age_high'"),
    ],
)
def test_missing_columns(folder, header, message):
    with pytest.raises(DataError, match=message):
        read_face_csv(folder(f"{header}\nimg/a.jpg,3\n"))


def test_an_age_that_is_none_is_quoted_and_counted_by_its_kind(folder):
    report = read_face_csv(folder("path,age\nimg/a.jpg,old\nimg/b.jpg,400\nimg/c.jpg,20\n")).report
    assert report.reasons() == {"age is no number of years from 0 to 130": 2}
    assert [row.item for row in report.dropped] == ["img/a.jpg: age 'old'", "img/b.jpg: age '400'"]


def test_the_columns_that_the_error_suggests_are_taken_by_fit(folder, capsys):
    root = folder("path,years\nimg/a.jpg,20\n")
    own = ["--data.root", str(root), "--data.columns", "{age: years}"]
    data = build_data(["--data=FaceCSV", *own])
    assert data.read().frame["age_low"].tolist() == [20]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", "csv.yaml", *own, "--print_config"])
    assert stopped.value.code == 0
    assert "age: years" in capsys.readouterr().out


def test_unknown_name_in_the_mapping(folder):
    with pytest.raises(DataError, match=r"unknown name 'sex'.*known"):
        read_face_csv(folder("path,age\nimg/a.jpg,3\n"), columns={"sex": "gender"})


def test_missing_table_or_all_images(folder, tmp_path):
    with pytest.raises(DataError, match=r"no faces.csv(.|\n)*header: path,age"):
        read_face_csv(tmp_path)
    with pytest.raises(DataError, match="none of the 1 images"):
        read_face_csv(folder("path,age\nz.jpg,3\n"))


def test_a_table_beside_the_root_is_pointed_out(tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces.csv").touch()
    monkeypatch.chdir(tmp_path)
    message = (
        "no faces.csv in faces: looked for faces/faces.csv; ./faces.csv exists: move it into the root or "
        "give its path relative to the root (--data.table ../faces.csv)"
    )
    with pytest.raises(DataError) as caught:
        read_face_csv("faces", "faces.csv")
    assert str(caught.value) == message


def test_a_missing_root_is_named():
    with pytest.raises(DataError, match=r"^no faces.csv: the folder nowhere does not exist\n"):
        read_face_csv("nowhere")


def test_datamodule_reads_the_table(folder):
    root = folder("path,age\nimg/a.jpg,20\n")
    data = FaceCSV(root=str(root), dataset_name="mine", race_classes=(), age_groups="adience", num_workers=0)
    assert (data.protocol, data.name, len(data.age_groups)) == ("random", "mine", 8)
    assert data.read().race_classes == data.race_classes == ()
    assert FaceCSV(root=str(root), num_workers=0).age_groups == ()


@pytest.mark.parametrize(
    ("text", "columns", "protocol"),
    [
        ("path,age,subject\nimg/a.jpg,20,s\nimg/b.jpg,20,t\n", None, "subject_exclusive"),
        ("path,age,who\nimg/a.jpg,20,s\n", {"subject": "Who"}, "subject_exclusive"),
        ("path,age,subject\nimg/a.jpg,20,s\nimg/b.jpg,20,\n", None, "random"),
        ("path,age\nimg/a.jpg,20\n", None, "random"),
        ("path,ages,subject\nimg/a.jpg,20,s\n", None, "random"),  # reading tells what is wrong
    ],
)
def test_subjects_are_kept_apart_by_default_where_all_are_known(folder, text, columns, protocol):
    root = str(folder(text))
    assert FaceCSV(root=root, columns=columns, num_workers=0).protocol == protocol
    assert FaceCSV(root=root, columns=columns, protocol="random", num_workers=0).protocol == "random"


def test_subject_exclusive_without_subjects_names_the_way_out(folder):
    data = FaceCSV(root=str(folder("path,age\nimg/a.jpg,20\n")), protocol="subject_exclusive", num_workers=0)
    with pytest.raises(DataError, match=r"--data\.protocol random"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("header", "columns", "races"),
    [
        ("path,age", None, ()),
        ("path,age,Race", None, RACES),
        ("path,age,origin", {"race": "Origin"}, RACES),
        ("path,age,race", {"race": "origin"}, ()),
    ],
)
def test_race_classes_follow_the_header(folder, header, columns, races):
    root = folder(f"{header}\nimg/a.jpg,20\n")
    assert FaceCSV(root=str(root), columns=columns, num_workers=0).race_classes == races


def test_race_classes_without_a_table_or_of_a_prepared_set(folder, tmp_path):
    assert FaceCSV(root=str(tmp_path / "gone"), num_workers=0).race_classes == RACES
    root = folder("path,age,race\nimg/a.jpg,20,white\n")
    record = {"format_version": 1, "dataset": "csv", "label_rule": "", "race_classes": [], "table": "t"}
    for prepared, races in (([], ()), (list(RACES), RACES)):
        folder(json.dumps(record | {"race_classes": prepared}), "dataset.json")
        assert FaceCSV(root=str(root), num_workers=0).race_classes == races
