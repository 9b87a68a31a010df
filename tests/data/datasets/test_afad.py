import pytest

from mtmsa_lightning.data.datasets.afad import AFAD, read_afad

GOOD = {  # age, gender, photo
    "15/111/292943-0.jpg": (15, 0, "292943"),
    "15/111/292943-1.jpg": (15, 0, "292943"),
    "15/112/292943-2.jpg": (15, 1, "292943"),
    "72/112/7-0.jpg": (72, 1, "7"),
}
BAD = ["15/113/1-0.jpg", "15/111/1.jpg", "111/1-0.jpg"]


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    touch(root, [f"AFAD-Full/{name}" for name in [*GOOD, *BAD]])
    touch(root, ["AFAD-Full/15/111/Thumbs.db", "AFAD-Full/AFAD-Full.txt", "AFAD-Full/README.md"])
    return root


def test_labels_come_from_folders(release):
    table = read_afad(release)
    frame = table.frame.set_index("id")
    assert len(frame) == len(GOOD)
    for name, (age, gender, photo) in GOOD.items():
        row = frame.loc[f"afad/{name}"]
        assert (row["age_low"], row["age_high"], row["gender"], row["photo"]) == (age, age, gender, photo)
        assert (row["path"], row["subject"]) == (f"AFAD-Full/{name}", "")
    assert table.report.reasons() == {"name is not <age>/<111|112>/<photo>-<face>.jpg": 3}
    assert (table.report.read, table.report.kept) == (7, 4)


def test_ids_do_not_depend_on_the_root(release):
    inner = read_afad(release / "AFAD-Full")
    assert inner.frame["id"].tolist() == read_afad(release).frame["id"].tolist()
    assert inner.label_rule == "afad full folder names"


def test_the_lite_edition_is_not_compared_with_the_full_one(tmp_path, touch):
    touch(tmp_path, ["AFAD-Lite/15/111/1-0.jpg"])
    assert read_afad(tmp_path).label_rule == read_afad(tmp_path / "AFAD-Lite").label_rule
    assert read_afad(tmp_path).label_rule == "afad lite folder names"


def test_release(check_release, release):
    check_release("afad", release, compared=1)
    assert AFAD(root=str(release)).protocol == "random"
