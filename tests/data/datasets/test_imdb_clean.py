import pytest

from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.datasets.imdb_clean import IMDBClean, read_imdb_clean
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.errors import DataError

HEADER = "filename,age,gender,x_min,y_min,x_max,y_max,head_roll,head_yaw,head_pitch\n"
TABLES = {
    "train": "07/nm0014107_rm1_1963-10-8_2007.jpg,43,F,10,20,30,50,1.5,0,0\n"
    "07/nm0014107_rm2_1963-10-8_2009.jpg,45,F,1,2,21,22,0,0,0\n",
    "valid": "07/nm0014107_rm3_1963-10-8_2010.jpg,47,F,1,2,21,22,0,0,0\n",
    "test": "08/nm0000008_rm1_1980-1-1_2000.jpg,20,M,5,5,25,25,0,0,0\n"
    "08/nm0000008_rm2_1980-1-1_2001.jpg,21,M,5,5,25,25,0,0,0\n"
    "08/nm0000008_rm3_1980-1-1_2002.jpg,22,M,25,5,25,25,0,0,0\n",
}
IMAGES = [line.split(",")[0] for table in TABLES.values() for line in table.splitlines()]
ABSENT = "08/nm0000008_rm2_1980-1-1_2001.jpg"


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    there = [name for name in IMAGES if name != ABSENT]
    touch(root, [f"{folder}/{name}" for folder in ("imdb-clean-1024", "imdb") for name in there])
    (root / "csvs").mkdir()
    for part, rows in TABLES.items():
        for suffix in ("", "_1024"):
            (root / f"csvs/imdb_{part}_new{suffix}.csv").write_text(HEADER + rows)
    return root


def test_labels_and_parts(release):
    table = read_imdb_clean(release)
    frame = table.frame
    assert frame["age_low"].tolist() == [43, 45, 47, 20, 22]
    assert frame["gender"].tolist() == [1, 1, 1, 0, 0]
    assert frame["subject"].tolist() == ["nm0014107"] * 3 + ["nm0000008"] * 2
    assert frame["split"].tolist() == ["train", "train", "val", "test", "test"]
    assert frame["id"].tolist() == [f"imdb_clean/{name}" for name in IMAGES if name != ABSENT]
    assert frame["path"].str.startswith("imdb-clean-1024/").all()
    assert table.report.reasons() == {"file not found": 1}
    assert (table.report.read, table.report.kept) == (6, 5)
    assert not set(BOX) & set(frame)


def test_photos_have_boxes(release):
    table = read_imdb_clean(release, "original", box_margin=0)
    assert table.frame["path"].tolist() == [f"imdb/{name}" for name in IMAGES[:4]]
    assert table.frame[[*BOX]].to_numpy().tolist() == [
        [10, 20, 30, 50, 0], [1, 2, 21, 22, 0], [1, 2, 21, 22, 0], [5, 5, 25, 25, 0],
    ]  # fmt: skip
    assert table.report.reasons() == {"file not found": 1, "face box is missing or empty": 1}


def test_no_test_subject_trains_but_validation_subjects_do(release):
    split = make_split(read_imdb_clean(release), "predefined")
    assert split.subjects_in_two_parts == 0
    assert (len(split.train), len(split.val), len(split.test)) == (2, 1, 2)


def test_a_number_is_no_gender(release):
    path = release / "csvs/imdb_train_new_1024.csv"
    path.write_text(path.read_text().replace(",F,", ",0,"))
    with pytest.raises(DataError, match="gender '0' is not one of m, f"):
        read_imdb_clean(release)


def test_release(check_release, release):
    faces = check_release("imdb_clean", release, compared=3)
    assert (faces.table["split"] == "train").sum() == 2
    assert IMDBClean(root=str(release)).protocol == "predefined"


def test_the_margin_is_a_fraction_of_the_longer_side(release):
    first = read_imdb_clean(release, "original").frame[[*BOX]].to_numpy()[0]
    assert first.tolist() == [10 - 12, 20 - 12, 30 + 12, 50 + 12, 0]  # 20 x 30 pixels
