import pytest

from mtmsa_lightning.data.datasets.megaage_asian import MegaAgeAsian, read_megaage_asian
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.errors import DataError

AGES = {"train": [3, 70, 21, 5, 33, 34, 35, 36, 37, 38, 39], "test": [60, 1]}


def write(folder, touch, skip=()):
    for part, ages in AGES.items():
        names = [f"{number}.jpg" for number in range(1, len(ages) + 1)]
        touch(folder, [f"{part}/{name}" for name in names if f"{part}/{name}" not in skip])
        (folder / "list").mkdir(exist_ok=True)
        (folder / f"list/{part}_name.txt").write_text("\n".join(names) + "\n")
        (folder / f"list/{part}_age.txt").write_text("\n".join(map(str, ages)) + "\n\n")
        (folder / f"list/{part}_dis.txt").write_text("0.1 0.9\n" * len(ages))
    return folder.parent


@pytest.fixture
def release(tmp_path, touch):
    return write(tmp_path / "release/megaage_asian", touch)


def test_ages_follow_the_lists_not_the_listing(release):
    table = read_megaage_asian(release)
    ages = dict(zip(table.frame["id"], table.frame["age_low"], strict=True))
    assert ages["megaage_asian/train/2.jpg"] == 70
    assert ages["megaage_asian/train/10.jpg"] == 38
    assert ages["megaage_asian/test/2.jpg"] == 1
    assert len(ages) == 13
    split = make_split(table, "predefined", val_fraction=0)
    assert (len(split.train), len(split.test)) == (11, 2)


def test_a_nested_copy_has_the_same_ids(release, tmp_path, touch):
    outer = write(tmp_path / "nested/megaage_asian/megaage_asian", touch).parent
    for root in (outer, outer / "megaage_asian", release / "megaage_asian"):
        assert read_megaage_asian(root).frame["id"].equals(read_megaage_asian(release).frame["id"])


def test_missing_images_and_wrong_ages_are_counted(tmp_path, touch):
    root = write(tmp_path / "megaage_asian", touch, skip=("train/4.jpg",))
    ages = root / "megaage_asian/list/train_age.txt"
    ages.write_text(ages.read_text().replace("70", "170"))
    report = read_megaage_asian(root).report
    assert (report.read, report.kept) == (13, 11)
    assert report.reasons() == {"file not found": 1, "no label": 1}


def test_lists_of_different_length_are_an_error(release):
    ages = release / "megaage_asian/list/test_age.txt"
    ages.write_text("60\n")
    with pytest.raises(DataError, match=r"test_name\.txt 2 and test_age\.txt 1 lines"):
        read_megaage_asian(release)
    ages.unlink()
    with pytest.raises(DataError, match=r"no test_age\.txt in"):
        read_megaage_asian(release)


def test_release(check_release, release):
    check_release("megaage_asian", release, compared=3)
    assert MegaAgeAsian(root=str(release)).protocol == "predefined"
