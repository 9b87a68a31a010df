import pytest

from mtmsa_lightning.data.datasets.all_age_faces import AllAgeFaces, read_all_age_faces
from mtmsa_lightning.data.splits.split import make_split

GOOD = {"00000A02.jpg": (2, 1), "07380A80.jpg": (80, 1), "07381A45.jpg": (45, 0), "13321A09.jpg": (9, 0)}
BAD = ["0000A02.jpg", "00001A2.jpg"]
ROOT = "All-Age-Faces Dataset"


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    for folder in ("original images", "aligned faces"):
        touch(root, [f"{ROOT}/{folder}/{name}" for name in [*GOOD, *BAD]])
    (root / ROOT / "image sets").mkdir()
    (root / ROOT / "image sets/train.txt").write_text("00000A02 0\n07381A45 1\n07380A80 1\n")
    (root / ROOT / "image sets/val.txt").write_text("13321A09 1\n")
    return root


def test_labels_come_from_numbers(release):
    for variant, folder in (("faces", "aligned faces"), ("photos", "original images")):
        table = read_all_age_faces(release, variant)
        frame = table.frame.set_index("id")
        assert len(frame) == len(GOOD)
        for name, (age, gender) in GOOD.items():
            row = frame.loc[f"all_age_faces/{name}"]
            assert (row["age_low"], row["gender"], row["path"]) == (age, gender, f"{ROOT}/{folder}/{name}")
        assert (table.report.read, table.report.kept) == (6, 4)
        assert table.report.reasons() == {"name is not <number>A<age>.jpg": 2}


def test_the_lists_give_the_parts(release):
    table = read_all_age_faces(release)
    split = make_split(table, "predefined", val_fraction=0)
    assert sorted(table.frame["id"].iloc[split.test]) == ["all_age_faces/13321A09.jpg"]
    assert len(split.train) == 3
    assert [(note.item, note.reason) for note in table.report.notes] == [
        (f"{ROOT}/aligned faces/07380A80.jpg", "a list has another gender")
    ]


def test_folder_and_lists_as_in_the_release(release):
    (release / ROOT / "aligned faces").rename(release / ROOT / "aglined faces")
    (release / ROOT / "image sets/val.txt").write_text("13321A09.jpg 1\n")
    for variant, folder in (("faces", "aglined faces"), ("photos", "original images")):
        frame = read_all_age_faces(release, variant).frame.set_index("path")
        assert {path.split("/")[1] for path in frame.index} == {folder}
        assert frame["split"].value_counts().to_dict() == {"train": 3, "test": 1}


def test_the_lists_may_be_missing(release):
    for name in ("train.txt", "val.txt"):
        (release / ROOT / "image sets" / name).unlink()
    assert set(read_all_age_faces(release / ROOT).frame["split"]) == {""}


def test_release(check_release, release):
    check_release("all_age_faces", release, compared=3)
    assert AllAgeFaces(root=str(release)).protocol == "random"
