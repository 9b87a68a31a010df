import json

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtmsa_lightning.data.datasets.fairface import RACE_CLASSES, FairFace, read_fairface
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.errors import DataError

HEADER = "file,age,gender,race,service_test\n"
TRAIN = """train/1.jpg,50-59,Male,East Asian,True
train/2.jpg,0-2,Female,Indian,FALSE
train/3.jpg,3-9,Female,Black,FALSE
train/4.jpg,more than 70,Male,Latino_Hispanic,TRUE
train/5.jpg,20-29,Male,White,TRUE
train/10.jpg,10-19,Female,Middle Eastern,TRUE
"""
VAL = "val/1.jpg,30-39,Female,Southeast Asian,TRUE\nval/2.jpg,40-49,Male,White,FALSE\n"
GROUPS = [(50, 59), (0, 2), (3, 9), (70, 100), (20, 29), (10, 19), (30, 39), (40, 49)]
RACES = [
    "East Asian",
    "Indian",
    "Black",
    "Latino_Hispanic",
    "White",
    "Middle Eastern",
    "Southeast Asian",
    "White",
]
NAMES = [line.split(",")[0] for line in (TRAIN + VAL).splitlines()]

AGE_NAMES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
HUB = {"age": AGE_NAMES, "gender": ["Male", "Female"], "race": sorted(RACE_CLASSES)}
"""Classes in the order of their integers; that of the races differs from ours."""


def write_tables(root, train=TRAIN, val=VAL):
    root.mkdir(parents=True, exist_ok=True)
    (root / "fairface_label_train.csv").write_text(HEADER + train)
    (root / "fairface_label_val.csv").write_text(HEADER + val)


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    touch(root, NAMES)
    write_tables(root)
    return root


def check_labels(table):
    frame = table.frame
    assert list(zip(frame["age_low"], frame["age_high"], strict=True)) == GROUPS
    assert [table.race_classes[race] for race in frame["race"]] == RACES
    assert frame["gender"].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    assert frame["split"].tolist() == ["train"] * 6 + ["test"] * 2


def test_labels_come_from_the_tables(release):
    table = read_fairface(release)
    check_labels(table)
    assert table.frame["id"].tolist() == [f"fairface/{name}" for name in NAMES]
    assert (table.report.read, table.report.kept) == (8, 8)
    assert table.race_classes == RACE_CLASSES


def test_the_validation_part_is_the_test_part(release):
    split = make_split(read_fairface(release), "predefined", val_fraction=0.2)
    assert (len(split.train), len(split.val), len(split.test)) == (4, 2, 2)


def test_both_margins_may_lie_side_by_side(release, touch):
    folders = [f"fairface-img-{variant}-trainval" for variant in ("margin025", "margin125")]
    touch(release, [f"{folders[0]}/{name}" for name in NAMES])
    with pytest.raises(DataError, match="no folder of margin125, only fairface-img-margin025-trainval"):
        read_fairface(release, "margin125")
    touch(release, [f"{folders[1]}/{name}" for name in NAMES[1:]])
    for variant, folder in zip(("margin025", "margin125"), folders, strict=True):
        table = read_fairface(release, variant)
        assert table.frame["path"].str.startswith(folder).all()
        assert table.label_rule == f"fairface {variant}"
    assert table.report.reasons() == {"file not found": 1}
    assert set(table.frame["id"]) == {f"fairface/{name}" for name in NAMES[1:]}


@pytest.mark.parametrize(("young", "older"), [("03-Sep", "Oct-19"), ("3-Sep", "19-Oct"), ("9-Mar", "Oct-19")])
def test_a_spreadsheet_stores_groups_as_dates(release, young, older):
    write_tables(release, TRAIN.replace(",3-9,", f",{young},").replace(",10-19,", f",{older},"))
    with pytest.raises(
        DataError, match=rf"line 4: age '{young}' is a date.* of the group 3-9 \(2 of 8 rows\)"
    ):
        read_fairface(release)
    table = read_fairface(release, repair_dates=True)
    check_labels(table)
    assert [note.reason for note in table.report.notes] == [
        "age group restored from a spreadsheet's date"
    ] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("Female,Indian", "1,Indian"), "gender '1' is not one of male, female"),
        (("Indian", "Asian"), "race 'Asian' is not one of white, black"),
    ],
)
def test_other_words_are_errors(release, wrong, message):
    write_tables(release, TRAIN.replace(*wrong))
    with pytest.raises(DataError, match=message):
        read_fairface(release)


def test_an_age_without_meaning_is_dropped_with_its_reason(release):
    write_tables(release, TRAIN.replace(",0-2,", ",baby,"))
    table = read_fairface(release)
    assert table.report.reasons() == {"age is not a number or group from 0 to 130": 1}
    assert "fairface/train/2.jpg" not in set(table.frame["id"])


def write_hub(root, names=HUB):
    """Write the copy of the Hub: two files for train and one for validation, with integer classes."""
    jpeg = cv2.imencode(".jpg", np.full((30, 30, 3), 80, np.uint8))[1].tobytes()
    tables = {"train-00000-of-00002": TRAIN.splitlines()[:4], "train-00001-of-00002": TRAIN.splitlines()[4:],
              "validation-00000-of-00001": VAL.splitlines()}  # fmt: skip
    for file, lines in tables.items():
        cells = pd.DataFrame([line.split(",")[1:4] for line in lines], columns=["age", "gender", "race"])
        columns = {name: pa.array([HUB[name].index(text) for text in cells[name]]) for name in cells}
        columns["image"] = pa.array([{"bytes": jpeg, "path": None}] * len(lines))
        table = pa.table(columns)
        features = {name: {"names": words, "_type": "ClassLabel"} for name, words in names.items()}
        info = json.dumps({"info": {"features": features | {"image": {"_type": "Image"}}}})
        root.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"huggingface": info}), root / f"{file}.parquet")


def test_the_copy_of_the_hub_has_the_same_labels(tmp_path):
    for margin in ("0.25", "1.25"):
        write_hub(tmp_path / margin)
    table = read_fairface(tmp_path, "margin125")
    check_labels(table)
    numbered = [
        *(f"fairface/train/{number}.jpg" for number in range(1, 7)),
        "fairface/val/1.jpg",
        "fairface/val/2.jpg",
    ]
    assert table.frame["id"].tolist() == numbered
    assert table.report.read == 8
    data = FairFace(root=str(tmp_path), variant="margin125", num_workers=0)
    data.setup("test")
    assert (data.test_dataset[0]["error"], data.test_dataset[0]["race"]) == ("", 4)


def test_unpacked_images_are_written_once(tmp_path):
    write_hub(tmp_path)
    first = read_fairface(tmp_path)
    image = tmp_path / first.frame["path"][0]
    image.write_bytes(b"mine")
    assert read_fairface(tmp_path).frame.equals(first.frame)
    assert image.read_bytes() == b"mine"
    (tmp_path / first.frame["path"][1]).unlink()
    assert len(read_fairface(tmp_path)) == 8


def test_numbers_without_names_are_not_guessed(tmp_path):
    write_hub(tmp_path, {"age": AGE_NAMES})
    with pytest.raises(DataError, match=r"gender '[01]' is not one of male, female"):
        read_fairface(tmp_path)


def test_release(check_release, release):
    faces = check_release("fairface", release, compared=4)
    assert faces.race_classes == RACE_CLASSES
    assert FairFace(root=str(release)).protocol == "predefined"
