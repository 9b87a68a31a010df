import numpy as np
import pytest

from mtmsa_lightning.data.datasets.clap2016 import CLAP2016, read_clap2016
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.errors import DataError

TABLES = {
    "train_gt.csv": "image,mean,stdv\n000000.jpg,4.2,1.03\n000001.jpg,30.5,0\n000003.jpg,19,2.5\n",
    "valid_gt.csv": "image,mean,stdv\n000000.jpg,54.49,7.1\n",
    "test_gt.csv": "image,mean,stdv\n000000.jpg,61.8,5.2\n",
}
IMAGES = ["train/000000.jpg", "train/000001.jpg", "valid/000000.jpg", "test/000000.jpg"]


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    touch(root, [f"clap/{name}" for name in IMAGES])
    for name, text in TABLES.items():
        (root / "clap" / name).write_text(text)
    return root


def test_mean_ages_are_rounded_and_kept(release):
    table = read_clap2016(release)
    frame = table.frame.set_index("id")
    expected = {  # age, mean, deviation, part
        "clap2016/train/000000.jpg": (4, 4.2, 1.03, "train"),
        "clap2016/train/000001.jpg": (31, 30.5, 0, "train"),
        "clap2016/valid/000000.jpg": (54, 54.49, 7.1, "val"),
        "clap2016/test/000000.jpg": (62, 61.8, 5.2, "test"),
    }
    columns = ["age_low", "apparent_age", "apparent_std", "split"]
    assert {name: tuple(frame.loc[name, columns]) for name in frame.index} == expected
    assert (frame["age_low"] == frame["age_high"]).all()
    assert table.root == release / "clap"


def test_missing_images_and_deviations_of_zero_are_reported(release):
    report = read_clap2016(release).report
    assert (report.read, report.kept) == (5, 4)
    assert [(row.item, row.reason) for row in report.dropped] == [("train/000003.jpg", "file not found")]
    assert [(note.item, note.reason) for note in report.notes] == [
        ("train/000001.jpg", "the standard deviation of the guesses is 0")
    ]


def test_the_parts_are_those_of_the_release(release):
    table = read_clap2016(release)
    split = make_split(table, "predefined")
    parts = {
        part: table.frame["path"].iloc[getattr(split, part)].tolist() for part in ("train", "val", "test")
    }
    assert parts == {"train": IMAGES[:2], "val": IMAGES[2:3], "test": IMAGES[3:]}


def test_a_missing_table_shows_the_tree(release):
    (release / "clap/valid_gt.csv").unlink()
    with pytest.raises(DataError, match=r"no valid_gt.csv in .*\n(.*\n)*.*valid_gt.csv test_gt.csv"):
        read_clap2016(release)


def test_release(check_release, release):
    faces = check_release("clap2016", release, compared=5)
    assert np.isclose(faces.table["apparent_std"].sum(), 1.03 + 0 + 7.1 + 5.2)
    assert CLAP2016(root=str(release)).protocol == "predefined"
