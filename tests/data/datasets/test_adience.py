from collections import Counter

import pytest

from mtmsa_lightning.data.datasets.adience import Adience, read_adience
from mtmsa_lightning.errors import ConfigError, DataError

HEADER = (
    "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
).replace(" ", "\t")
ROWS = {
    0: ["u1 a.jpg 1 (25,_32) m", "u1 b.jpg 1 None u", "u1 a.jpg 1 (25,_32) m", "u1 c.jpg 2 35 f"],
    1: ["u2 d.jpg 3 (0,_2) u", "u2 e.jpg 3 36 f", "u2 g.jpg 3 (25,_23) f"],
    2: ["u3 h.jpg 4 (8,_23) f", "u3 i.jpg 4 (27,_32) M", "u3 j.jpg 4  f"],
    3: ["u4 k.jpg 5 (38,_42) f", "u4 l.jpg 5 (38,_48) f", "u4 m.jpg 5 (60,_100) "],
    4: ["u5 n.jpg 6 3 m", "u5 o.jpg 6 13 m", "u5 gone.jpg 6 (4,_6) m"],
}


def as_line(row):
    cells = [cell.replace("_", " ") for cell in row.split(" ")]
    return "\t".join([*cells, *["1", "2", "3", "4", "0", "0", "9"]])


@pytest.fixture
def release(tmp_path, touch):
    for fold, rows in ROWS.items():
        lines = [HEADER, *map(as_line, rows)]
        (tmp_path / f"fold_{fold}_data.txt").write_text("\n".join(lines) + "\n")
        for user, image, face, *_ in (row.split(" ") for row in rows):
            if image != "gone.jpg":
                touch(tmp_path, [f"aligned/{user}/landmark_aligned_face.{face}.{image}"])
                touch(tmp_path, [f"faces/{user}/coarse_tilt_aligned_face.{face}.{image}"])
    return tmp_path


def ages_by_image(table):
    frame = table.frame
    ages = zip(frame["age_low"].astype(int), frame["age_high"].astype(int), strict=True)
    return dict(zip(frame["id"].str.split(".").str[-2], ages, strict=True))


def test_canonical_keeps_exact_groups_and_repeats(release):
    table = read_adience(release)
    assert table.frame["id"].tolist() == [
        "adience/aligned/u1/landmark_aligned_face.1.a.jpg",
        "adience/aligned/u1/landmark_aligned_face.1.a.jpg#2",
        "adience/aligned/u2/landmark_aligned_face.3.d.jpg",
        "adience/aligned/u4/landmark_aligned_face.5.m.jpg",
    ]
    assert table.frame["gender"].tolist() == [0, 0, -1, -1]
    assert table.frame["fold"].tolist() == [0, 0, 1, 3]
    assert table.frame["subject"].tolist() == ["1", "1", "3", "5"]
    assert (table.frame["race"] == -1).all()
    assert (table.label_rule, table.race_classes) == ("adience canonical", ())


def test_extended_maps_ages_corrects_groups_and_drops_repeats(release):
    table = read_adience(release, "extended")
    assert table.label_rule == "adience extended"
    assert ages_by_image(table) == {
        "a": (25, 32), "c": (25, 32), "d": (0, 2), "e": (38, 43), "h": (8, 12), "i": (25, 32),
        "k": (38, 43), "l": (38, 43), "m": (60, 100), "n": (0, 2), "o": (8, 12),
    }  # fmt: skip


def test_report_counts_every_row(release):
    assert read_adience(release, "extended").report.reasons() == {
        "no age": 2, "age (25, 23) is not extended": 1, "repeated row": 1, "file not found": 1,
    }  # fmt: skip
    report = read_adience(release).report
    assert report.read == 16
    assert report.dropped[0].line == 3
    assert report.dropped[0].item == "fold_0_data.txt u1/1.b.jpg"


def replace_in(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_capitals_and_spaces_do_not_matter(release):
    before = read_adience(release).frame
    replace_in(release / "fold_0_data.txt", "(25, 32)\tm", "( 25,32 )\tM")
    replace_in(release / "fold_0_data.txt", "None\tu", "none\tU")
    assert read_adience(release).frame.equals(before)


@pytest.mark.parametrize("word", ["x", "female", "0", "\uff46"])
def test_a_gender_that_the_release_does_not_have_is_an_error(release, word):
    replace_in(release / "fold_0_data.txt", "35\tf", f"35\t{word}")
    message = f"fold_0_data.txt: line 5: gender '{word}' is not one of m, f, u"
    with pytest.raises(DataError, match=message):
        read_adience(release, "extended")


def test_an_age_that_the_release_does_not_have_is_dropped_by_name(release):
    replace_in(release / "fold_0_data.txt", "35\tf", "3 5\tf")
    report = read_adience(release, "extended").report
    assert report.reasons()["age is not a text of the release"] == 1
    assert "line 5: fold_0_data.txt u1/2.c.jpg: age '3 5'" in str(report)


def test_faces_variant(release):
    table = read_adience(release, variant="faces")
    assert table.frame["path"].iloc[0] == "faces/u1/coarse_tilt_aligned_face.1.a.jpg"
    assert all((table.root / path).is_file() for path in table.frame["path"])


def test_folds_one_folder_down_with_images_beside(release):
    (release / "folds").mkdir()
    for fold in range(5):
        (release / f"fold_{fold}_data.txt").rename(release / "folds" / f"fold_{fold}_data.txt")
    table = read_adience(release)
    assert table.root == release
    assert len(table) == 4


@pytest.mark.parametrize("absent", ["fold_3_data.txt", "aligned"])
def test_missing_parts_show_the_tree(release, absent):
    (release / absent).rename(release / "elsewhere")
    with pytest.raises(DataError, match=r"expected:(.|\n)*landmark_aligned_face"):
        read_adience(release)


def test_unknown_rule_or_variant(release):
    for arguments in ({"label_rule": "loose"}, {"variant": "raw"}):
        with pytest.raises(DataError, match="must be one of"):
            read_adience(release, **arguments)


def test_strict_refuses_dirt(release):
    with pytest.raises(DataError, match="no age x2"):
        read_adience(release, strict=True)


def test_full_size_canonical(full_adience):
    table = read_adience(full_adience)
    assert table.report.read == 19_487
    assert len(table) == 17_424
    assert table.frame["path"].nunique() == 17_424 - 114
    assert Counter(table.frame["fold"]) == {0: 4_316, 1: 3_101, 2: 3_339, 3: 2_975, 4: 3_693}
    assert (table.frame["gender"] >= 0).sum() == 16_258
    assert table.report.reasons()["no age"] == 753
    assert len(table.report.reasons()) == 1 + 17 + 5  # 31 texts: eight groups, None, single ages, odd groups


def test_full_size_extended(full_adience):
    table = read_adience(full_adience, "extended")
    assert len(table) == table.frame["path"].nunique() == 18_550
    assert table.report.reasons() == {"no age": 753, "age (25, 23) is not extended": 70, "repeated row": 114}
    assert table.frame.groupby("subject")["fold"].nunique().max() == 1


def test_datamodule_reads_the_release(release):
    data = Adience(root=str(release), label_rule="extended", variant="faces", num_workers=0)
    assert (data.protocol, data.crop, len(data.age_groups)) == ("folds", 1.0, 8)
    table = data.read()
    assert table.label_rule == "adience extended"
    assert table.race_classes == data.race_classes
    assert table.frame["path"].str.startswith("faces/").all()


@pytest.mark.parametrize("protocol", ["random", "subject_exclusive", "predefined"])
def test_only_the_releases_own_folds_are_split_by(tmp_path, protocol):
    assert Adience.protocols == ("folds", "whole", "train_all")
    with pytest.raises(ConfigError, match="not supported by adience: choose one of folds, whole, train_all"):
        Adience(root=str(tmp_path), protocol=protocol)
