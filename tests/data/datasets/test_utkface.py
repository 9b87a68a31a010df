import pytest

from mtmsa_lightning.data import release_files as files
from mtmsa_lightning.data.datasets.utkface import UTKFace, read_utkface
from mtmsa_lightning.data.release_files import hash_ids
from mtmsa_lightning.errors import DataError

GOOD = {
    "1_0_2_20161219154354285.jpg.chip.jpg": (1, 0, 2),
    "116_1_3_20170109150557335.jpg.chip.jpg": (116, 1, 3),
    "55_0_0_20170116232725357jpg.chip.jpg": (55, 0, 0),
    "26_1_4_20170104222823975.jpg": (26, 1, 4),
}
BAD = {
    "61_1_20170109142408075.jpg.chip.jpg": "name lacks a field",
    "39_1_20170116174525125.jpg.chip.jpg": "name lacks a field",
    "24_0_5_20170116220224657.jpg.chip.jpg": "age, gender or race is out of range",
    "24_3_1_20170116220224657.jpg.chip.jpg": "age, gender or race is out of range",
    "131_0_1_20170116220224657.jpg.chip.jpg": "age, gender or race is out of range",
    "holiday.jpg": "name is not <age>_<gender>_<race>_<timestamp>",
    "24__1_20170116220224657.jpg": "name is not <age>_<gender>_<race>_<timestamp>",
}


@pytest.fixture
def release(tmp_path, touch):
    touch(tmp_path, [f"part1/{name}" for name in [*GOOD, *BAD]])
    touch(
        tmp_path,
        ["part2/1_0_2_20161219154354285.jpg.chip.jpg", "part2/30_0_1_20170101000000000.jpg.chip.jpg"],
    )
    (tmp_path / "part1" / "readme.txt").touch()
    return tmp_path


def test_labels_come_from_names(release):
    frame = read_utkface(release).frame.set_index("id")
    for name, (age, gender, race) in GOOD.items():
        row = frame.loc[f"utkface/{name}"]
        assert (row["age_low"], row["age_high"], row["gender"], row["race"]) == (age, age, gender, race)
        assert row["path"] == f"part1/{name}"
    assert len(frame) == len(GOOD) + 1


def test_irregular_names_are_reported(release):
    report = read_utkface(release).report
    dropped = {row.item.split("/")[1]: row.reason for row in report.dropped if row.item.startswith("part1")}
    assert dropped == BAD
    assert [row.item for row in report.dropped if row.reason == "same name in another folder"] == [
        "part2/1_0_2_20161219154354285.jpg.chip.jpg"
    ]
    assert (report.read, report.kept) == (13, 5)
    assert all(1 <= row.line <= 13 for row in report.dropped)


def test_ids_do_not_depend_on_the_folder(release):
    inner = read_utkface(release / "part1").frame["id"].tolist()
    assert inner == [name for name in read_utkface(release).frame["id"] if "30_0_1" not in name]


def test_content_hash_and_conflicting_copies(release):
    names = ["part1/20_0_0_20170101000000001.jpg.chip.jpg", "part1/40_0_0_20170101000000002.jpg.chip.jpg"]
    for name in names:
        (release / name).write_text("same")
    table = read_utkface(release)
    content = table.frame.set_index("path")["content"]
    assert content[names[0]] == content[names[1]] == f"{hash_ids(['same'])[0]:016x}"
    assert sorted(note.item for note in table.report.notes) == names
    assert content.nunique() == len(content) - 1


def test_strict_refuses_dirt(release):
    with pytest.raises(DataError, match="name lacks a field x2"):
        read_utkface(release, strict=True)


@pytest.mark.parametrize("folder", ["gone", "empty"])
def test_no_images_show_the_tree(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="<age>_<gender>_<race>_<timestamp>"):
        read_utkface(tmp_path / folder)


def test_only_bad_names(tmp_path, touch):
    touch(tmp_path, ["holiday.jpg"])
    with pytest.raises(DataError, match="no usable face"):
        read_utkface(tmp_path)


def test_datamodule_reads_the_release(release):
    data = UTKFace(root=str(release), num_workers=0)
    assert (data.protocol, data.crop, data.name) == ("random", 1.0, "utkface")
    assert data.read().race_classes == data.race_classes == ("white", "black", "asian", "indian", "other")


def test_unreadable_files_are_dropped(release, monkeypatch):
    kept = read_utkface(release).frame["path"].tolist()
    open_regular = files.open_regular

    def fail_once(path):
        if path == release / kept[1]:
            raise OSError("cannot be read")
        return open_regular(path)

    monkeypatch.setattr(files, "open_regular", fail_once)
    table = read_utkface(release)
    assert table.frame["path"].tolist() == [kept[0], *kept[2:]]
    assert table.report.reasons()["file cannot be read"] == 1


WILD = {
    "part1/1_0_0_20161219140530307.jpg": (1, 0, 0),
    "part2/26_1_4_20170104222823975 .jpg": (26, 1, 4),  # with a space
    "part3/90_1_1_20170110182418864.jpg": (90, 1, 1),
}
WILD_BAD = {
    "part1/61_1_20170109142408075.jpg": "name lacks a field",
    "part1/61_3_20170109150557335.jpg": "name lacks a field",
    "part2/39_1_20170116174525125.jpg": "name lacks a field",
    "part3/53__0_20170116184028385.jpg": "name is not <age>_<gender>_<race>_<timestamp>",
    "copy/1_0_0_20161219140530307.jpg": "same name in another folder",
}


def test_the_in_the_wild_form_has_three_parts(tmp_path, touch):
    touch(tmp_path, [*WILD, *WILD_BAD, "UTKFace/30_0_1_20170101000000000.jpg.chip.jpg"])
    (tmp_path / "part1/landmark_list_part1.txt").write_text("1_0_0_20161219140530307.jpg -4 71\n")
    (tmp_path / "copy/1_0_0_20161219140530307.jpg").rename(
        tmp_path / "part3/1_0_0_20161219140530307.jpg"
    )  # sorts after part1
    table = read_utkface(tmp_path, "in_the_wild")
    frame = table.frame.set_index("path")
    assert {path: tuple(frame.loc[path, ["age_low", "gender", "race"]]) for path in frame.index} == WILD
    reasons = {row.item: row.reason for row in table.report.dropped}
    moved = {path.replace("copy", "part3"): reason for path, reason in WILD_BAD.items()}
    assert reasons == moved
    assert table.report.read == len(WILD) + len(WILD_BAD)
    assert UTKFace(root=str(tmp_path), variant="in_the_wild").read().label_rule == table.label_rule
    assert read_utkface(tmp_path).frame["path"].tolist() == ["UTKFace/30_0_1_20170101000000000.jpg.chip.jpg"]


def test_the_other_form_alone_is_an_error(tmp_path, touch):
    touch(tmp_path, WILD)
    with pytest.raises(DataError, match=r"only whole photos: --data\.variant in_the_wild"):
        read_utkface(tmp_path)
    touch(tmp_path / "cropped", ["1_0_2_20161219154354285.jpg.chip.jpg"])
    with pytest.raises(DataError, match=r"only cropped faces: --data\.variant aligned"):
        read_utkface(tmp_path / "cropped", "in_the_wild")
