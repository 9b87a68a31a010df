import pytest

from mtmsa_lightning.data.datasets.fgnet import FGNET, read_fgnet
from mtmsa_lightning.data.splits.split import fold_numbers, make_split
from mtmsa_lightning.errors import DataError

GOOD = {  # subject, age
    "001A02.JPG": ("001", 2),
    "001A43a.JPG": ("001", 43),
    "001A43b.JPG": ("001", 43),
    "002a15.jpg": ("002", 15),
    "082A0.jpg": ("082", 0),
}
BAD = ["1A02.JPG", "001B02.JPG", "001A02ab.JPG", "Thumbs.jpg"]


@pytest.fixture
def release(tmp_path, touch):
    touch(tmp_path / "release", [f"FG-NET/images/{name}" for name in [*GOOD, *BAD]])
    touch(tmp_path / "release", ["FG-NET/points/001a02.pts"])
    return tmp_path / "release"


def test_labels_come_from_names(release):
    table = read_fgnet(release)
    frame = table.frame.set_index("id")
    assert len(frame) == len(GOOD)
    for name, (subject, age) in GOOD.items():
        row = frame.loc[f"fgnet/{name}"]
        assert (row["subject"], row["age_low"], row["age_high"], row["gender"]) == (subject, age, age, -1)
    assert (table.report.read, table.report.kept) == (9, 5)
    assert table.report.reasons() == {"name is not <subject>A<age>.JPG": 4}


def test_one_subject_is_the_test_part_of_each_fold(release):
    table = read_fgnet(release)
    subject = table.frame["subject"]
    assert fold_numbers(table, "leave_one_subject_out") == (0, 1, 2)
    for fold, name in enumerate(["001", "002", "082"]):
        split = make_split(table, "leave_one_subject_out", fold, val_fraction=0)
        assert subject.iloc[split.test].unique().tolist() == [name]
        assert sorted(subject.iloc[split.train].unique()) == sorted({"001", "002", "082"} - {name})
        assert split.subjects_in_two_parts == 0


def test_leave_one_subject_out_needs_subjects(face_table):
    for subjects in ("a", ["a", "", "b"]):
        with pytest.raises(DataError, match="needs the subject of every face"):
            fold_numbers(face_table(3, subject=subjects), "leave_one_subject_out")


def test_release(check_release, release):
    check_release("fgnet", release, compared=2)
    assert FGNET(root=str(release)).protocol == "leave_one_subject_out"
