import json
import unicodedata

import cv2
import numpy as np
import pytest

from mtmsa_lightning import AgeDBDataset
from mtmsa_lightning.data.datasets.agedb import AgeDB, read_agedb
from mtmsa_lightning.errors import DataError

GOOD = {  # number, subject, age, gender
    "0_MariaCallas_35_f.jpg": (0, "MariaCallas", 35, 1),
    "12_MariaCallas _41_f.jpg": (12, "MariaCallas", 41, 1),
    "300_GérardDepardieu_101_m.jpg": (300, "GérardDepardieu", 101, 0),
    "16487_Bob_1_m.jpg": (16487, "Bob", 1, 0),
    "7_ßÕÓ_22_m.jpg": (7, "ßÕÓ", 22, 0),  # decoded by the wrong code page
}
BAD = ["12_Maria_Callas_35_f.jpg", "13_MariaCallas_35.jpg", "MariaCallas_35_f.jpg", "14_MariaCallas_35_x.jpg"]


@pytest.fixture
def release(tmp_path, touch):
    touch(tmp_path / "release", [f"AgeDB/{name}" for name in [*GOOD, *BAD]])
    (tmp_path / "release/AgeDB/Thumbs.db").touch()
    return tmp_path / "release"


def test_labels_come_from_names(release):
    frame = read_agedb(release).frame.set_index("id")
    assert len(frame) == len(GOOD)
    for name, (number, subject, age, gender) in GOOD.items():
        row = frame.loc[f"agedb/{name}"]
        assert (row["number"], row["subject"], row["gender"]) == (number, subject, gender)
        assert row["age_low"] == row["age_high"] == age
        assert row["path"] == f"AgeDB/{name}"


def test_other_names_are_dropped_with_a_reason(release):
    report = read_agedb(release).report
    assert (report.read, report.kept) == (9, 5)
    assert sorted(row.item for row in report.dropped) == sorted(f"AgeDB/{name}" for name in BAD)
    assert report.reasons() == {"name is not <number>_<name>_<age>_<m|f>.jpg": 4}
    with pytest.raises(DataError, match=r"strict.*x4"):
        read_agedb(release, strict=True)


def test_ids_do_not_depend_on_the_folder_or_the_form_of_unicode(release, tmp_path, touch):
    touch(tmp_path / "mac", [unicodedata.normalize("NFD", name) for name in GOOD])
    assert set(read_agedb(tmp_path / "mac").frame["id"]) == set(read_agedb(release).frame["id"])


def test_an_impossible_age_is_unknown_and_the_gender_is_kept(tmp_path, touch):
    touch(tmp_path, ["0_A_131_f.jpg", "1_A_130_f.jpg"])
    table = read_agedb(tmp_path)
    assert table.frame["age_low"].isna().tolist() == [True, False]
    assert table.frame["gender"].tolist() == [1, 1]
    assert [note.reason for note in table.report.notes] == ["age is outside 0 to 130: unknown"]


def test_a_second_copy_is_counted_once(release, touch):
    touch(release, ["copy/0_MariaCallas_35_f.jpg"])
    report = read_agedb(release).report
    assert report.kept == 5
    assert report.reasons()["same name in another folder"] == 1


def test_release(check_release, release):
    faces = check_release("agedb", release, compared=4)
    assert faces[0]["gender"] in (0, 1)
    assert AgeDB(root=str(release)).protocol == "subject_exclusive"


def test_the_benchmark_gives_parts_and_the_crop(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "AgeDB").mkdir()
    names = [f"{number}_P{number}_30_m.jpg" for number in range(10)]
    for name in names:
        cv2.imwrite(str(tmp_path / "AgeDB" / name), rng.integers(0, 256, (90, 90, 3)).astype(np.uint8))
    corners = [70, 10, 70, 50, 30, 50, 30, 10]  # the square from (30, 10) to (70, 50), turned clockwise by 90
    rows = [
        {"img_path": f"AgeDB/AgeDB/{name}", "folder": folder, "age": 30, "aligned_bbox": corners}
        for folder, name in enumerate(names)
    ]
    (tmp_path / "AgeDB.json").write_text(json.dumps(rows))
    faces = AgeDBDataset(
        tmp_path, "test", "cvpr2024", fold=1, split_file=str(tmp_path / "AgeDB.json"), image_size=64
    )
    assert faces.table["number"].tolist() == [0, 1]
    photo = cv2.cvtColor(cv2.imread(str(tmp_path / "AgeDB" / names[1])), cv2.COLOR_BGR2RGB)
    turned = np.rot90(photo[10:50, 30:70])
    expected = cv2.resize(turned, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(faces[1]["image"].permute(1, 2, 0).numpy(), expected)
