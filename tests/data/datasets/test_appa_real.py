import pytest

from mtmsa_lightning.data.datasets.appa_real import APPAREAL, read_appa_real
from mtmsa_lightning.errors import DataError

HEADER = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"
TABLES = {
    "gt_avg_train.csv": "000000.jpg,39,5.05,0.92,4\n000001.jpg,38,20.5,0,18\n",
    "gt_avg_valid.csv": "000000.jpg,36,29.94,3.1,\n",
    "gt_avg_test.csv": "000000.jpg,36,61.2,4.4,73\n",
    "gt_train.csv": "000000.jpg,5,4\n000000.jpg,6,4\n",  # one row for each guess
}
PHOTOS = ["train/000000.jpg", "train/000001.jpg", "valid/000000.jpg", "test/000000.jpg"]


@pytest.fixture
def release(tmp_path, touch):
    folder = tmp_path / "release/appa-real-release"
    touch(folder, [f"{name}{suffix}" for name in PHOTOS for suffix in ("", "_face.jpg", ".mat")])
    for name, text in TABLES.items():
        (folder / name).write_text(HEADER + text)
    return tmp_path / "release"


def test_each_photo_is_counted_once(release):
    for variant, suffix in (("faces", "_face.jpg"), ("photos", "")):
        table = read_appa_real(release, variant=variant)
        assert table.frame["path"].tolist() == [f"{name}{suffix}" for name in PHOTOS]
        assert (table.report.read, table.report.kept) == (4, 4)
        assert table.frame["split"].tolist() == ["train", "train", "val", "test"]


def test_the_age_is_apparent_or_real(release):
    apparent, real = read_appa_real(release), read_appa_real(release, age="real")
    assert apparent.frame["age_low"].tolist() == [5, 21, 30, 61]
    assert real.frame["age_low"].tolist() == [4, 18, 73]
    assert apparent.label_rule != real.label_rule
    assert apparent.frame["apparent_age"].tolist() == [5.05, 20.5, 29.94, 61.2]
    assert apparent.frame["apparent_std"].tolist() == [0.92, 0, 3.1, 4.4]
    assert apparent.frame["real_age"].fillna(-1).tolist() == [4, 18, -1, 73]


def test_a_missing_real_age_is_counted(release):
    report = read_appa_real(release, age="real").report
    assert report.reasons() == {"no label": 1}
    assert [(note.item, note.reason) for note in report.notes] == [
        ("train/000001.jpg_face.jpg", "the standard deviation of the guesses is 0"),
        ("valid/000000.jpg_face.jpg", "age is missing"),
    ]


def test_an_unknown_choice_is_refused(release):
    with pytest.raises(DataError, match=r"data\.age 'true': choose one of apparent, real"):
        read_appa_real(release, age="true")


def test_release(check_release, release):
    check_release("appa_real", release, compared=5, variant="photos")
    assert APPAREAL(root=str(release)).protocol == "predefined"


def test_a_prepared_set_of_the_other_age_is_refused():
    rules = {age: APPAREAL(age=age).prepared_rule for age in ("apparent", "real")}
    assert rules["apparent"] != rules["real"]
