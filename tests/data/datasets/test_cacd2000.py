import unicodedata

import numpy as np
import pytest
import scipy.io

from mtmsa_lightning.data.datasets.cacd2000 import CACD2000, read_cacd2000
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.errors import DataError

RANKS = {  # rank of the celebrity
    "53_Robin_Williams_0001.jpg": 1,
    "53_Robin_Williams_0002.jpg": 2,
    "21_Chloë_Grace_Moretz_0001.jpg": 3,
    "62_Rosie_O'Donnell_0016.jpg": 5,
    "43_Robert_Downey_Jr._0003.jpg": 6,
    "14_Emma_Watson_0001.jpg": 50,
}
SUBJECTS = ["Robin_Williams", "Robin_Williams", "Chloë_Grace_Moretz", "Rosie_O'Donnell", "Robert_Downey_Jr.",
            "Emma_Watson"]  # fmt: skip
BAD = ["Robin_Williams_0003.jpg", "53_Robin_Williams_003.jpg"]


def write_meta(root, ranks):
    names = np.empty(len(ranks), object)
    names[:] = [*ranks]
    image_data = {"name": names, "rank": np.array([*ranks.values()], float), "age": np.zeros(len(ranks))}
    scipy.io.savemat(root / "celebrity2000_meta.mat", {"celebrityImageData": image_data})


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    touch(root, [f"CACD2000/{name}" for name in [*RANKS, *BAD]])
    return root


def test_labels_come_from_names(release):
    table = read_cacd2000(release)
    frame = table.frame.set_index("id").loc[[f"cacd2000/{name}" for name in RANKS]]
    assert frame["age_low"].tolist() == [53, 53, 21, 62, 43, 14]
    assert frame["subject"].tolist() == SUBJECTS
    assert set(frame["split"]) == {""}
    assert (frame["gender"] == -1).all()
    assert table.report.reasons() == {"name is not <age>_<name>_<number>.jpg": 2}


def test_parts_come_from_the_rank_whatever_the_form_of_unicode(release, tmp_path, touch):
    touch(tmp_path / "mac", [unicodedata.normalize("NFD", name) for name in RANKS])
    for root in (release, tmp_path / "mac"):
        write_meta(root, RANKS)
        table = read_cacd2000(root)
        parts = dict(zip(table.frame["id"].str.removeprefix("cacd2000/"), table.frame["split"], strict=True))
        assert parts == dict(zip(RANKS, ["val", "val", "test", "test", "train", "train"], strict=True))
        split = make_split(table, "predefined")
        assert (len(split.train), len(split.val), len(split.test)) == (2, 2, 2)


def test_images_in_only_one_of_folder_and_list_are_reported(release):
    ranks = dict(RANKS) | {"30_Nobody_0001.jpg": 9}
    del ranks["14_Emma_Watson_0001.jpg"]
    write_meta(release, ranks)
    table = read_cacd2000(release)
    assert table.report.reasons()["in celebrity2000_meta.mat, but file not found"] == 1
    assert (table.report.read, table.report.kept) == (9, 6)
    assert [(note.item, note.reason) for note in table.report.notes] == [
        ("CACD2000/14_Emma_Watson_0001.jpg", "not in celebrity2000_meta.mat: in no part")
    ]


def test_without_the_list_there_are_no_parts(release):
    with pytest.raises(DataError, match="needs a column split or fold"):
        make_split(read_cacd2000(release), "predefined")


def test_release(check_release, release):
    write_meta(release, RANKS)
    check_release("cacd2000", release, compared=5)
    assert CACD2000(root=str(release)).protocol == "predefined"
