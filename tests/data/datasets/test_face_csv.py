import json
import unicodedata

import cv2
import numpy as np
import pytest

from mtmsa_lightning import MTMSA
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.balance import balancing_weights
from mtmsa_lightning.data.datasets.face_csv import FaceCSV, read_face_csv
from mtmsa_lightning.data.prepared.format import BOXED
from mtmsa_lightning.data.preprocessing_check import preprocessing_of, warn_preprocessing
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.training.build_data import build_data


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
        "img\\c.jpg,7.9,woman,HISPANIC,s1,4,Validation\n"
        "img/d.jpg,0,-1,-1,,-1,test\n"
    )
    table = read_face_csv(root)
    frame = table.frame
    assert frame["id"].tolist() == ["csv/img/a.jpg", "csv/img/b.JPG", "csv/img/c.jpg", "csv/img/d.jpg"]
    assert frame["path"].tolist() == [f"img/{name}.jpg" for name in "abcd"]
    np.testing.assert_equal(frame["age_low"].to_numpy(), [30, np.nan, 7, 0])
    assert frame["gender"].tolist() == [0, 1, 1, -1]
    assert frame["race"].tolist() == [0, -1, 1, -1]
    assert table.race_classes == ("white", "hispanic")
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


def test_absolute_paths_outside_the_root_name_the_root_that_holds_them(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "faces.csv").write_text(
        f"path,age\n{tmp_path}/img/a.jpg,20\n{tmp_path}/img/b.jpg,3\n"
    )
    message = rf"all paths are absolute and outside the root .*e\.g\. --data\.root {tmp_path}/img "
    with pytest.raises(DataError, match=message):
        read_face_csv(tmp_path / "other")
    assert len(read_face_csv(tmp_path, "other/faces.csv")) == 2


def test_absolute_paths_by_way_of_a_link_to_the_root(folder, tmp_path):
    root = folder(f"path,age\n{tmp_path}/link/img/a.jpg,20\n{tmp_path}/img/b.jpg,20\n")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert read_face_csv(tmp_path / "link").frame["path"].tolist() == ["img/a.jpg", "img/b.jpg"]


@pytest.mark.parametrize("cell", ["1e1", "0x1f", "+25", "\uff12\uff15", "1_0", "inf", "25.", "25 years"])
def test_only_plain_numbers_are_ages(folder, cell):
    report = read_face_csv(folder(f"path,age\nimg/a.jpg,{cell}\nimg/b.jpg,25.0\nimg/c.jpg, 25 \n")).report
    assert [(row.line, row.reason) for row in report.dropped] == [
        (2, "age is not a number or group from 0 to 130")
    ]


def test_minus_one_means_unknown_in_every_label(folder):
    root = folder("path,age,gender,race,subject,fold,split\nimg/a.jpg,-1,-1,-1,-1,-1,-1\nimg/b.jpg,3,,,,,\n")
    face = read_face_csv(root).frame.iloc[0]
    assert np.isnan(face["age_low"])
    assert face[["gender", "race", "subject", "fold", "split"]].tolist() == [-1, -1, "", -1, ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,age,split\nimg/a.jpg,3,train\nimg/b.jpg,4,",
            "line 3: .* before 'split': it is probably truncated",
        ),
        (
            "path,age,split\nimg/a.jpg,3,train\nimg/b.jpg",
            "line 3: .* before 'age', 'split': it is probably truncated",
        ),
        ("path,age\nimg/a.jpg", "line 2: .* before 'age': it is probably truncated"),
        ('path,age\nimg/a.jpg,3\n"img/b.j', "line 3: .*is a quote left open"),
        ("path,age,spl", None),
    ],
)
def test_a_file_that_ends_within_a_row_is_named(folder, text, message):
    with pytest.raises(DataError, match=message or "has a header, but no rows"):
        read_face_csv(folder(text))


def test_a_last_cell_may_be_empty_where_others_are(folder):
    assert len(read_face_csv(folder("path,age,note\nimg/a.jpg,3,\nimg/b.jpg,4,"))) == 2
    assert len(read_face_csv(folder("path,age,split\nimg/a.jpg,3,train\nimg/b.jpg,4,\n"))) == 2


@pytest.mark.parametrize(
    ("header", "columns", "used"),
    [
        ("path,Age, sex, ethnicity", None, "gender = 'sex', race = 'ethnicity'"),
        ("file,years,Sex", None, "path = 'file', age = 'years', gender = 'Sex'"),
        ("path,age,person_id,x,y,w,h", None,
         "subject = 'person_id', box_left = 'x', box_top = 'y', box_width = 'w', box_height = 'h'"),
        ("path,years,sex", {"age": "years"}, "gender = 'sex'"),
        ("path,age,gender", None, None),
        ("path,age,sex,gender", None, None),
        ("path,age,sex", {"gender": None}, None),
        ("path,age,id,name,note", None, None),
    ],
)  # fmt: skip
def test_columns_with_usual_names_are_used_and_logged(folder, caplog, header, columns, used):
    caplog.set_level("INFO")
    cells = ["img/a.jpg", "3", *["f"] * (header.count(",") - 1)]
    if "w,h" in header:
        cells[-4:] = ["1", "2", "3", "4"]
    root = folder(f"{header}\n{','.join(cells)}\n")
    read_face_csv(root, columns=columns, race_classes=("f",))
    lines = [text for text in caplog.messages if "columns: " in text]
    assert lines == ([f"{root}/faces.csv: columns: {used} (others: --data.columns)"] if used else [])


def test_a_column_id_that_repeats_is_the_subject(folder):
    lines = [f"img/{name}.jpg,3,{number}" for name, number in zip("abcd", (7, 8, 7, "NA"), strict=True)]
    assert read_face_csv(folder("\n".join(["path,age,id", *lines, ""]))).frame["subject"].tolist() == [
        "7", "8", "7", "",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["-1", "NA", "n/a", "null", "Unknown", "?", "", "None", "nan"])
def test_an_unknown_label_is_missing_alone(folder, word):
    root = folder(
        f"path,age,gender,race,subject,fold,split\nimg/a.jpg,{word},f,white,s,1,train\n"
        f"img/b.jpg,3,{word},{word},{word},{word},{word}\n"
    )
    table = read_face_csv(root)
    first, second = (table.frame.iloc[row] for row in (0, 1))
    assert np.isnan(first["age_low"])
    assert first[["gender", "race", "subject", "fold", "split"]].tolist() == [1, 0, "s", 1, "train"]
    assert second[["age_low", "gender", "race", "subject", "fold", "split"]].tolist() == [
        3, -1, -1, "", -1, "",
    ]  # fmt: skip
    assert not table.report.dropped + table.report.notes


def test_ages_as_groups_decimals_and_dates(folder):
    root = folder("path;age\nimg/a.jpg;34,5\nimg/b.jpg;more than 70\nimg/c.jpg;3-9\nimg/d.jpg;(25, 32)\n")
    frame = (table := read_face_csv(root)).frame
    assert frame[["age_low", "age_high"]].to_numpy().tolist() == [[34, 34], [70, 100], [3, 9], [25, 32]]
    assert [(note.line, note.reason) for note in table.report.notes] == [(2, "age cut to completed years")]
    root = folder(
        "path,dob,photo_taken\nimg/a.jpg,1980-07-02,2000-07-01\nimg/b.jpg,1980-07-02,2000\n"
        "img/c.jpg,,2000\nimg/d.jpg,1980-13-02,2000-01-01\nimg/e.jpg,2001-01-01,2000-01-01\n"
    )
    frame = (table := read_face_csv(root)).frame
    np.testing.assert_equal(frame[["age_low", "age_high"]].to_numpy(), [[19, 19], [19, 20], [np.nan, np.nan]])
    assert [str(row) for row in sorted(table.report.dropped)] == [
        "line 5: img/d.jpg: birth_date '1980-13-02': birth_date is not a date in the format of the column",
        "line 6: img/e.jpg: 2001-01-01 to 2000-01-01: age from the dates is outside 0 to 130",
    ]


def test_dates_of_a_spreadsheet_are_named_and_restored_on_request(folder):
    root = folder("path,age\nimg/a.jpg,20-29\nimg/b.jpg,03-Sep\nimg/c.jpg,Oct-19\nimg/d.jpg,9-Mar\n")
    message = (
        r"faces.csv: line 3: age '03-Sep' is a date, which a spreadsheet made of the group 3-9 "
        r"\(3 of 4 rows\).*--data.repair_dates true"
    )
    with pytest.raises(DataError, match=message):
        read_face_csv(root)
    table = read_face_csv(root, repair_dates=True)
    assert table.frame[["age_low", "age_high"]].to_numpy().tolist() == [[20, 29], [3, 9], [10, 19], [3, 9]]
    assert [note.line for note in table.report.notes] == [3, 4, 5]


def test_dates_of_which_no_group_is_known_are_named(folder):
    root = folder("path,age\nimg/a.jpg,20-29\nimg/b.jpg,2024-09-03 00:00:00\nimg/c.jpg,03-Sep\n")
    for repair, count in ((False, 2), (True, 1)):
        with pytest.raises(
            DataError, match=rf"line 3: age '2024.*\({count} of 3 rows\).*--data.labels '{{age"
        ):
            read_face_csv(root, repair_dates=repair)
    labels = {"age": {"2024-09-03 00:00:00": "3-9"}}
    frame = read_face_csv(root, labels=labels, repair_dates=True).frame
    assert frame[["age_low", "age_high"]].to_numpy().tolist() == [[20, 29], [3, 9], [3, 9]]


def test_a_comma_is_decimal_in_a_column_of_decimal_numbers(folder):
    text = "path;age\nimg/a.jpg;34,5\nimg/b.jpg;61,5\nimg/c.jpg;2,5\nimg/d.jpg;{}\n"
    assert read_face_csv(folder(text.format("8"))).frame["age_low"].tolist() == [34, 61, 2, 8]
    for group in ("25, 32", "(25,32)"):
        report = read_face_csv(folder(text.format(group))).report
        assert [row.line for row in report.dropped] == [4]


def test_labels_state_races_by_name_and_unused_texts_are_named(folder, caplog):
    root = folder("path,age,race\nimg/a.jpg,3,East_Asian\nimg/b.jpg,3,Latino\n")
    labels = {"race": {"east asian": "asian", "Latinos": "hispanic"}}
    assert read_face_csv(root, labels=labels).race_classes == ("asian", "Latino")
    assert caplog.messages == [
        f"{root}/faces.csv: labels: no row has the race 'Latinos' (did you mean 'Latino'?)"
    ]
    caplog.clear()
    read_face_csv(root, labels={"race": {"east asian": "asian", "latino": "hispanic"}})
    assert not caplog.messages


def test_a_race_in_another_encoding_is_no_class(folder):
    root = folder("")
    (root / "faces.csv").write_bytes("path,age,race\nimg/a.jpg,3,\xc4thiopisch\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2: race .* saved as UTF-8"):
        read_face_csv(root)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("a", "there is 'img/a.jpg': paths are relative to the root and end with the suffix"),
        ("photos\\A.JPG", "there is 'img/a.jpg': paths are relative"),
        ("https://x.org/a.jpg", "images are files below the root, not URLs"),
        ("z.jpg", r"such as 'z.jpg'\) in"),
    ],
)
def test_images_that_do_not_exist_are_named_with_a_near_one(folder, path, hint):
    with pytest.raises(DataError, match=hint):
        read_face_csv(folder(f"path,age\n{path},3\n"))


def test_all_unknown_words_are_in_the_example(folder):
    root = folder("path,age,gender,split\nimg/a.jpg,3,Mann,dev\nimg/b.jpg,3,Frau,test\n")
    with pytest.raises(DataError, match=r"--data.labels '{gender: {\"Mann\": male, \"Frau\": male}}'"):
        read_face_csv(root)
    labels = {"gender": {"mann": "male", "Frau": "female"}}
    with pytest.raises(DataError, match=r"'dev' is not one .* --data.labels '{split: {\"dev\": train}}'"):
        read_face_csv(root, labels=labels)


def test_codes_need_a_stated_meaning(folder):
    root = folder("path,age,gender,race\nimg/a.jpg,0,0,7\nimg/b.jpg,1,1,0\n")
    with pytest.raises(DataError, match="line 2: race '7' is a code"):
        read_face_csv(root)
    with pytest.raises(DataError, match="line 2: race '7' is a code"):
        FaceCSV(root=root, num_workers=0).read()
    labels = {"gender": {0: "female", 1: "male"}, "race": {7: "Martian", 0: None}, "age": {0: "0-2"}}
    table = read_face_csv(root, labels=labels)
    assert table.frame["gender"].tolist() == [1, 0]
    assert (table.frame["race"].tolist(), table.race_classes) == ([0, -1], ("Martian",))
    assert table.frame["age_high"].tolist() == [2, 1]
    assert table.label_rule == (
        "csv table columns; age: 0 = 0-2; gender: 0 = female, 1 = male; race: 0 = None, 7 = Martian"
    )
    data = build_data([
        "--data=FaceCSV", f"--data.root={root}", "--data.num_workers=0", "--data.labels",
        "{gender: {0: female, 1: male}, race: {7: Martian, 0: null}, age: {0: 0-2}}",
    ])  # fmt: skip
    assert (data.race_classes, data.table.frame["gender"].tolist()) == (("Martian",), [1, 0])


def test_boxes_crop_the_images_and_tell_faces_of_one_photo_apart(tmp_path, draw):
    photo = draw(1, 200)
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    lines = ["path,age,x,y,width,height", "a.png,20,10,20,40,40", "a.png,30,100,90,60,60", "a.png,40,,,,"]
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    table = read_face_csv(tmp_path)
    assert table.frame[[*BOX]].iloc[1].tolist() == [100, 90, 160, 150, 0]
    assert table.frame["content"].nunique() == 3
    data = FaceCSV(root=str(tmp_path), protocol="whole", val_fraction=0, num_workers=0, image_size=64)
    data.setup("test")
    face = data.test_dataset[1]["image"]
    wanted = cv2.resize(photo[90:150, 100:160, ::-1], (64, 64))
    assert np.abs(face.astype(int) - wanted).mean() < 3


def test_columns_of_the_tables_own_can_be_balanced(folder, caplog):
    root = str(folder("path,age,Camera\nimg/a.jpg,20,x\nimg/b.jpg,20,x\nimg/c.jpg,20,y\nimg/d.jpg,20,NA\n"))
    own = {"protocol": "train_all", "val_fraction": 0.25, "num_workers": 0, "balance_by": ("camera",)}
    data = FaceCSV(root=root, sampler="balanced", **own)
    assert data.table.frame["camera"].tolist() == ["x", "x", "y", ""]
    weights = balancing_weights(data.table.frame, data.balance_by)
    np.testing.assert_allclose(weights, [0.75, 0.75, 1.5, 1])
    assert "camera" not in FaceCSV(root=root, num_workers=0).table.frame
    FaceCSV(root=root, **own).setup("fit")
    assert "data.balance_by changes nothing with data.sampler uniform" in caplog.text


def test_a_single_column_of_boxes_is_noticed(folder, caplog):
    data = FaceCSV(root=str(folder('path,age,bbox\nimg/a.jpg,20,"[1,2,3,4]"\n')), num_workers=0)
    assert len(data.table) == 1
    (message,) = caplog.messages
    assert "column 'bbox' is not read: a face box needs four columns, such as box_left, box_top" in message


def test_boxes_with_a_margin(folder, caplog):
    root = folder("path;age;x;y;w;h\nimg/a.jpg;20;10,5;20;40;20\nimg/b.jpg;20;;;;\n")
    table = read_face_csv(root, box_margin=0.5)
    assert table.frame[[*BOX]].iloc[0].tolist() == [-9.5, 0, 70.5, 60, 0]
    assert np.isnan(table.frame["face_left"].iloc[1])
    assert table.label_rule == "csv table columns; face boxes, margin 0.5"
    data = FaceCSV(root=str(root), box_margin=0.5, num_workers=0)
    assert data.table.frame["face_right"].iloc[0] == 70.5
    assert data.preparation == BOXED
    for used in (None, {"crop": {"margin": 0.25, "detector": {}}}):
        warn_preprocessing({"preparation": BOXED}, preprocessing_of(data) | {"preparation": used}, "it")
    assert len(caplog.messages) == 2
    assert all(
        "trained on faces that were cropped to the boxes of a table" in text for text in caplog.messages
    )
    assert FaceCSV(root=str(folder("path,age\nimg/a.jpg,20\n")), num_workers=0).preparation is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"box_margin": -0.1}, "box_margin -0.1: give a fraction"),
        ({"box_margin": float("nan")}, "box_margin nan: give a fraction"),
        ({"box_margin": 0.2}, "box_margin 0.2 changes nothing, because the table has no box_left"),
        ({"date_format": "%Y"}, "date_format %Y changes nothing, because the table has no birth_date"),
    ],
)
def test_settings_that_change_nothing_are_errors(folder, setting, message):
    with pytest.raises(DataError, match=message):
        read_face_csv(folder("path,age\nimg/a.jpg,3\n"), **setting)


def test_boxes_in_fractions_of_the_image_are_refused(folder):
    root = folder("path,age,x,y,w,h\nimg/a.jpg,20,,,,\nimg/b.jpg,20,0.1,0.2,0.5,0.8\n")
    with pytest.raises(DataError, match=r"line 3: img/b.jpg: box \(0.1, 0.2, 0.5, 0.8\) is a fraction"):
        read_face_csv(root)
    assert len(read_face_csv(folder("path,age,x,y,w,h\nimg/a.jpg,9,0.1,0.2,0.5,0.8\nimg/b.jpg,9,0,0,9,9\n")))


def test_whole_photos_without_boxes_are_noticed(tmp_path, draw, caplog):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), cv2.resize(draw(1, 64), (800, 600)))
    lines = ["path,age,left,top,right,bottom", "a.jpg,20,,,,", "b.jpg,30,10,10,90,90"]
    for columns, warned in (({}, 0), ({"box_left": None}, 1)):
        (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
        caplog.clear()
        FaceCSV(root=str(tmp_path), columns=columns, protocol="whole", val_fraction=0, num_workers=0).setup()
        said = [text for text in caplog.messages if "whole photos" in text]
        assert len(said) == warned
        assert (
            not said
            or "2 of a sample of 2 images look like whole photos, such as a.jpg (800 x 600" in said[0]
        )


@pytest.mark.parametrize(("stored", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_found_in_any_form_and_stay_as_in_the_table(folder, touch, stored, listed):
    name = "Zoë/Ünal.jpg"
    root = folder("")
    touch(root, [unicodedata.normalize(stored, name)])
    text = f"path,age\n{unicodedata.normalize(listed, name)},20\n"
    folder(text, unicodedata.normalize(stored, "Größe.csv"))
    table = read_face_csv(root, unicodedata.normalize(listed, "Größe.csv"))
    assert table.frame["path"].tolist() == [unicodedata.normalize(stored, name)]
    assert table.frame["id"].tolist() == [f"csv/{unicodedata.normalize(listed, name)}"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(folder, touch, encoding, ending):
    root = folder("")
    touch(root, ["é.jpg"])
    text = ending.join(["path;age;note", 'é.jpg;20;"a;b', 'c"', "img/a.jpg;21;x", ""])
    (root / "faces.csv").write_bytes(
        (b"\xff\xfe" if encoding == "utf-16-le" else b"") + text.encode(encoding)
    )
    report = (table := read_face_csv(root)).report
    assert table.frame["age_low"].tolist() == ([21] if encoding == "latin-1" else [20, 21])
    if encoding == "latin-1":
        assert report.reasons() == {"file not found; the table is not saved as UTF-8": 1}


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
            "line 3: gender 'femail' is not one of male, m, man, boy, female, f, woman, girl",
        ),
        ("path,age,gender", "img/a.jpg,3,0", r"line 3: gender '0' is a code.*'{gender: {0: female}}'"),
        ("path,age,race", "img/a.jpg,3,0", r"line 3: race '0' is a code.*'{race: {0: white}}'"),
        ("path,age,race", "img/a.jpg,3,\x1b", r"line 3: race '\\x1b' is not a name"),
        ("path,age,race", "img/a.jpg,3,_", "line 3: race '_' is not a name"),
        ("path,age,set", "img/a.jpg,3,x", r"line 3: split 'x' .*if 'set' holds no split: .*'{split: null}'"),
        ("path,age,split", "img/a.jpg,3,dev", "line 3: split 'dev' is not one of train"),
    ],
)
def test_words_outside_the_vocabulary_are_errors(folder, header, row, message):
    with pytest.raises(DataError, match=message):
        read_face_csv(folder(f"{header}\n\n{row}\n"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("where,age", "no column 'path'; if another column holds it: --data.columns '{path: file}'"),
        (
            "path,agee",
            r"no column 'age' .*another column holds it \(did you mean 'agee'\?\): .*'{age: years}'",
        ),
        (
            "path,race",
            r"no column 'age' \(nor age_low and age_high, nor birth_date and photo_date\); if another .*: "
            r"--data.columns '{age: years}'",
        ),
        ("path,age_low", "no column 'age_high'"),
    ],
)
def test_missing_columns(folder, header, message):
    with pytest.raises(DataError, match=message):
        read_face_csv(folder(f"{header}\nimg/a.jpg,3\n"))


def test_an_age_that_is_none_is_quoted_and_counted_by_its_kind(folder):
    report = read_face_csv(folder("path,age\nimg/a.jpg,old\nimg/b.jpg,400\nimg/c.jpg,20\n")).report
    assert report.reasons() == {"age is not a number or group from 0 to 130": 2}
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


def test_a_workbook_is_named(folder):
    with pytest.raises(DataError, match=r"faces.xlsx: is a workbook of a spreadsheet: save its table as CSV"):
        read_face_csv(folder("PK", "faces.xlsx"), "faces.xlsx")


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
    with pytest.raises(
        DataError, match=r"^no faces.csv: the folder nowhere does not exist: give another root"
    ):
        read_face_csv("nowhere")


def test_datamodule_reads_the_table(folder):
    root = folder("path,age\nimg/a.jpg,20\n")
    data = FaceCSV(root=str(root), dataset_name="mine", race_classes=(), age_groups="adience", num_workers=0)
    assert (data.protocol, data.name, len(data.age_groups)) == ("random", "mine", 8)
    assert data.read().race_classes == data.race_classes == ()
    assert FaceCSV(root=str(root), num_workers=0).age_groups == ()
    assert FaceCSV(root=str(root), age_groups=[[0, 17], [18, 99]]).age_groups == ((0, 17), (18, 99))


@pytest.mark.parametrize("groups", [[[0, 17]], [[0, 17], [17, 99]], [[18, 99], [0, 17]], [[0], [1, 2]], []])
def test_age_groups_that_are_none(folder, groups):
    with pytest.raises(ConfigError, match="two or more pairs of ages that increase"):
        FaceCSV(root=str(folder("path,age\nimg/a.jpg,20\n")), age_groups=groups)


@pytest.mark.parametrize(
    ("text", "columns", "protocol"),
    [
        ("path,age,subject\nimg/a.jpg,20,s\nimg/b.jpg,20,t\n", None, "subject_exclusive"),
        ("path,age,who\nimg/a.jpg,20,s\n", {"subject": "Who"}, "subject_exclusive"),
        ("path,age,subject\nimg/a.jpg,20,s\nimg/b.jpg,20,\n", None, "random"),
        ("path,age\nimg/a.jpg,20\n", None, "random"),
        ("path,agez,subject\nimg/a.jpg,20,s\n", None, "random"),  # reading tells what is wrong
    ],
)
def test_subjects_are_kept_apart_by_default_where_all_are_known(folder, text, columns, protocol):
    root = str(folder(text))
    assert FaceCSV(root=root, columns=columns, num_workers=0).protocol == protocol
    assert FaceCSV(root=root, columns=columns, protocol="random", num_workers=0).protocol == "random"


def test_the_shipped_config_takes_a_table_of_paths_and_ages(folder, caplog):
    caplog.set_level("INFO")
    root = str(folder("path,age\nimg/a.jpg,20\nimg/b.jpg,30\n"))
    data = build_data(["--config=csv.yaml", f"--data.root={root}"])
    assert data.protocol == "random"
    assert caplog.messages == ["protocol random, which splits by image: there are no subjects"]
    caplog.clear()
    folder("path,age,subject\nimg/a.jpg,20,s\nimg/b.jpg,30,\n")
    assert build_data(["--config=csv.yaml", f"--data.root={root}"]).protocol == "random"
    assert "not every face has a subject" in caplog.text
    folder("path,age,subject\nimg/a.jpg,20,s\nimg/b.jpg,30,t\n")
    assert build_data(["--config=csv.yaml", f"--data.root={root}"]).protocol == "subject_exclusive"


def test_a_split_of_the_table_is_pointed_out(folder, caplog):
    caplog.set_level("INFO")
    root = str(folder("path,age,split,subject\nimg/a.jpg,20,train,s\nimg/b.jpg,30,test,t\n"))
    assert FaceCSV(root=root, num_workers=0).protocol == "subject_exclusive"
    assert caplog.messages == ["the table's own split is used with --data.protocol predefined"]


def test_subject_exclusive_without_subjects_names_the_way_out(folder):
    data = FaceCSV(root=str(folder("path,age\nimg/a.jpg,20\n")), protocol="subject_exclusive", num_workers=0)
    with pytest.raises(DataError, match=r"--data\.protocol random"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("words", "races"),
    [
        ([], ()),
        (["", "-1"], ()),
        (["Hispanic", "WHITE", "white", ""], ("white", "hispanic")),
        (["White", "East Asian", "east_asian", "East Asian"], ("East Asian", "White")),
        (["b", "a", "B", "B"], ("a", "B")),
    ],
)
@pytest.mark.parametrize("header", ["race", "Race", "origin"])
def test_race_classes_are_those_of_the_table(folder, words, races, header):
    root = folder(f"path,age,{header}\n" + "".join(f"img/a.jpg,20,{word}\n" for word in words or [""]))
    columns = {"race": "Origin"} if header == "origin" else None
    data = FaceCSV(root=str(root), columns=columns, num_workers=0)
    assert data.race_classes == data.table.race_classes == races
    known = data.table.frame["race"].tolist()
    assert [races[race].lower() if race >= 0 else "" for race in known] == [
        word.lower().replace("_", " ").replace("-1", "") for word in words or [""]
    ]


def test_given_race_classes_set_their_order_and_number(folder, tmp_path):
    root = str(folder("path,age,race\nimg/a.jpg,20,white\nimg/b.jpg,20,East-Asian\n"))
    own = ("East Asian", "Nobody", "White")
    data = FaceCSV(root=root, race_classes=own, num_workers=0)
    assert data.race_classes == data.table.race_classes == own
    assert data.table.frame["race"].tolist() == [2, 0]
    with pytest.raises(DataError, match="line 3: race 'East-Asian' is not one of White, black"):
        FaceCSV(root=root, race_classes=("White", "black"), num_workers=0).read()
    with pytest.raises(DataError, match="'White', 'WHITE' are one name"):
        FaceCSV(root=root, race_classes=("White", "WHITE"), num_workers=0).read()
    folder("path,age\nimg/a.jpg,20\n")
    assert FaceCSV(root=root, race_classes=own, num_workers=0).race_classes == ()


def test_race_classes_without_a_table_or_of_a_prepared_set(folder, tmp_path):
    assert FaceCSV(root=str(tmp_path / "gone"), num_workers=0).race_classes == ()
    root = folder("path,age,race\nimg/a.jpg,20,white\n")
    record = {"format_version": 1, "dataset": "csv", "label_rule": "", "race_classes": [], "table": "t"}
    for prepared, races in (([], ()), (["b", "a"], ("b", "a"))):
        folder(json.dumps(record | {"race_classes": prepared}), "dataset.json")
        assert FaceCSV(root=str(root), num_workers=0).race_classes == races


def test_a_table_with_boxes_and_codes_is_prepared_and_continued(tmp_path, draw, fails):
    root, out = tmp_path / "release", tmp_path / "out"
    root.mkdir()
    cv2.imwrite(str(root / "a.png"), draw(1, 300))
    lines = ["file,age,sex,x1,y1,x2,y2,lens", "a.png,20s,0,10,20,90,100,p", "a.png,60+,1,150,150,290,290,q"]
    (root / "faces.csv").write_text("\n".join(lines) + "\n")
    command = ["prepare", "--data", "csv", "--root", str(root), "--out", str(out), "--detect", "false"]
    assert "line 2: gender '0' is a code" in fails(*command)
    command += ["--data.balance_by", "[lens]", "--data.box_margin", "0.1"]
    command += ["--data.labels", "{gender: {0: female, 1: male}}"]
    main(command)
    main(command)  # complete: nothing is to be done
    data = FaceCSV(root=str(out), num_workers=0)
    assert data.table.frame["gender"].tolist() == [1, 0]
    assert data.table.frame["age_high"].tolist() == [29, 100]
    assert data.table.label_rule == "csv table columns; gender: 0 = female, 1 = male; face boxes, margin 0.1"
    assert data.table.frame["lens"].tolist() == ["p", "q"]
    first, second = (cv2.imread(str(out / path)) for path in data.table.frame["path"])
    assert np.abs(first.astype(int) - second).mean() > 10
    other = [*command[:-1], "{gender: {1: female, 0: male}}"]
    assert "was made with other options" in fails(*other)


def test_a_single_race_makes_no_head(folder):
    data = FaceCSV(root=str(folder("path,age,race\nimg/a.jpg,20,Martian\n")), num_workers=0)
    assert data.race_classes == ("Martian",)
    assert MTMSA(race_classes=data.race_classes, msa=None).tasks == ("age", "gender")
