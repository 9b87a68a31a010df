import time
from collections import Counter

import pytest

from mtmsa_lightning.data.datasets import morph
from mtmsa_lightning.data.datasets.morph import MORPH, read_morph
from mtmsa_lightning.data.release_files import ImageListing
from mtmsa_lightning.errors import DataError

HEADER = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
ROWS = """
1,0,07/31/1960,08/05/1985,W,M,,25,,,Album2/000001_0M25.JPG
1,10,07/31/1960,08/05/1990,W,M,,30,1826,,Album2/000001_10M30.JPG
22,0,13/45/1970,08/05/2000,B,F,,30,,,Album2/000022_0M30.JPG
333,0,01/01/1970,08/05/2000,H,F,,30,,,Album2/000333_0F31.JPG
4,0,01/01/1970,08/05/2000,A,F,,30,,,Album2/000004_0F30.JPG
5,0,01/01/1970,08/05/2000,,,,30,,,Album2/000005_0F30.JPG
6,0,01/01/1970,08/05/2000,O,F,,old,,,Album2/000006_0F30.JPG
7,0,01/01/1970,08/05/2000,O,F,,30,,,Album2/000007_0F30.JPG
8,0,01/01/1970,08/05/2000
1,0,07/31/1960,08/05/1985,W,M,,25,,,Album2/000001_0M25.JPG
x,0,01/01/1970,08/05/2000,O,F,,30,,,Album2/strange.JPG
""".strip().splitlines()


@pytest.fixture
def release(tmp_path, touch):
    photos = {row.split(",")[-1] for row in ROWS if row.endswith("JPG")} - {"Album2/000007_0F30.JPG"}
    touch(tmp_path, [photo.replace("000004_0F30.JPG", "000004_0F30.jpg") for photo in photos])
    (tmp_path / "MORPH_2008_NonCommercial.CSV").write_text("\n".join([HEADER, *ROWS]) + "\n")
    return tmp_path


@pytest.fixture
def table(release):
    return read_morph(release)


def test_rows_follow_the_table(table):
    frame = table.frame.set_index("id")
    assert list(frame.index) == [
        "morph/Album2/000001_0M25.JPG",
        "morph/Album2/000001_10M30.JPG",
        "morph/Album2/000022_0M30.JPG",
        "morph/Album2/000333_0F31.JPG",
        "morph/Album2/000004_0F30.JPG",
        "morph/Album2/000005_0F30.JPG",
        "morph/Album2/000001_0M25.JPG#2",
    ]
    assert frame["age_low"].tolist() == frame["age_high"].tolist() == [25, 30, 30, 30, 30, 30, 25]
    assert frame["gender"].tolist() == [0, 0, 1, 1, 1, -1, 0]
    assert [table.race_classes[race] if race >= 0 else "" for race in frame["race"]] == [
        "white", "white", "black", "hispanic", "asian", "", "white",
    ]  # fmt: skip
    assert frame["subject"].tolist()[:3] == ["000001", "000001", "000022"]
    assert table.label_rule == "morph table columns"


def test_extra_columns(table):
    first, _, third = (table.frame.iloc[row] for row in range(3))
    assert (first["dob"], first["doa"], first["picture"]) == ("1960-07-31", "1985-08-05", 0)
    assert third["dob"] == ""
    assert table.frame["picture"].tolist()[1] == 10


def test_path_is_the_file_that_exists(release, table):
    assert "Album2/000004_0F30.jpg" in set(table.frame["path"])
    assert all((release / path).is_file() for path in table.frame["path"])


def test_report(table):
    assert {(row.line, row.reason) for row in table.report.dropped} == {
        (8, "age is not a whole number of years"),
        (9, "file not found"),
        (10, "4 cells where the header has 11"),
        (12, "id_num is not a number"),
    }
    assert table.report.read == 11
    assert {(row.line, row.reason) for row in table.report.notes} == {
        (4, "name disagrees with the table's gender"),
        (4, "dob is not a date (MM/DD/YYYY)"),
        (5, "name disagrees with the table's age"),
        (7, "unknown gender"),
        (7, "unknown race"),
        (7, "name disagrees with the table's gender"),
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",H,F,", ",X,F,", "line 5: race 'X' is not one of w, b, a, h, o"),
        (",H,F,", ",H,female,", "line 5: gender 'female' is not one of m, f"),
    ],
)
def test_words_that_the_release_does_not_have_are_errors(release, old, new, message):
    file = release / "MORPH_2008_NonCommercial.CSV"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        read_morph(release)


def test_capitals_do_not_matter(release, table):
    file = release / "MORPH_2008_NonCommercial.CSV"
    file.write_text(file.read_text().replace(",H,F,", ",h,f,"))
    assert read_morph(release).frame.equals(table.frame)


@pytest.mark.parametrize("age", ["1e1", "0x1f", "+30", "\uff13\uff10", "30.5", "1_0", "inf"])
def test_only_plain_numbers_are_ages(release, age):
    file = release / "MORPH_2008_NonCommercial.CSV"
    file.write_text(file.read_text().replace(",H,F,,30,", f",H,F,,{age},"))
    dropped = {row.line: row.reason for row in read_morph(release).report.dropped}
    assert dropped[5] == "age is not a whole number of years"


def test_strict_refuses_dirt(release):
    with pytest.raises(DataError, match=r"line 9: Album2/000007_0F30\.JPG: file not found"):
        read_morph(release, strict=True)


def test_release_one_folder_down_gives_the_same_ids(release, table, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    (outer / "MORPH").symlink_to(release)
    assert read_morph(outer).frame["id"].tolist() == table.frame["id"].tolist()


def test_photos_beside_the_table_s_folder(release):
    (release / "tables").mkdir()
    (release / "MORPH_2008_NonCommercial.CSV").rename(release / "tables" / "morph_2008_nonCommercial.csv")
    assert len(read_morph(release)) == 7


@pytest.mark.parametrize("absent", ["MORPH_2008_NonCommercial.CSV", "Album2"])
def test_missing_parts_show_the_tree(release, absent):
    (release / absent).rename(release / "elsewhere")
    with pytest.raises(DataError, match=r"000001_0M25\.JPG"):
        read_morph(release)


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match=r"does not exist(.|\n)*expected"):
        read_morph(tmp_path / "gone")


def test_missing_column(release):
    path = release / "MORPH_2008_NonCommercial.CSV"
    path.write_text(path.read_text().replace("id_num", "id_nums"))
    with pytest.raises(DataError, match=r"'id_num' \(did you mean 'id_nums'\?\)"):
        read_morph(release)


def test_full_size(full_morph, monkeypatch):
    root, photos = full_morph
    monkeypatch.setattr(morph, "list_images", lambda root: ImageListing(photos))
    start = time.perf_counter()
    table = read_morph(root, strict=True)
    assert time.perf_counter() - start < 10  # about 1.5 s on an idle core
    assert len(table) == 55_134
    assert table.report.notes == []
    assert Counter(table.frame["race"]) == {0: 10_559, 1: 42_589, 2: 154, 3: 1_769, 4: 63}
    assert Counter(table.frame["gender"]) == {0: 46_645, 1: 8_489}
    assert table.frame["subject"].nunique() == 13_617


def test_datamodule_reads_the_release(release):
    data = MORPH(root=str(release), num_workers=0)
    assert (data.protocol, data.crop, data.name) == ("subject_exclusive", 0.85, "morph")
    assert data.read().race_classes == data.race_classes
