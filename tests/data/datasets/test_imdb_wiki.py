from datetime import date

import numpy as np
import pytest
import scipy.io

from mtmsa_lightning.data.datasets.imdb_wiki import IMDBWiki, read_imdb_wiki
from mtmsa_lightning.errors import DataError

INF, NAN = float("inf"), float("nan")


def day(year, month, day):
    """Return Matlab's number of a day."""
    return date(year, month, day).toordinal() + 366.0


IMDB = {  # dob, photo_taken, gender, face_score, second_face_score
    "01/nm0000001_rm1_1899-5-10_1968.jpg": (day(1899, 5, 10), 1968, 1, 1.46, NAN),
    "01/nm0000001_rm2_1899-5-10_1970.jpg": (day(1899, 5, 10) + 0.5, 1970, 1, 2.0, NAN),
    "02/nm0000002_rm1_1924-6-30_1974.jpg": (day(1924, 6, 30), 1974, 0, 3.0, NAN),
    "02/nm0000002_rm2_1924-7-1_1974.jpg": (day(1924, 7, 1), 1974, 0, 3.0, NAN),
    "03/nm0000003_rm1_1990-1-1_1980.jpg": (day(1990, 1, 1), 1980, 1, 3.0, NAN),  # -10
    "03/nm0000003_rm2_0-0-0_2001.jpg": (47.0, 2001, 0, 3.0, NAN),  # before the year 1
    "03/nm0000003_rm3_0-0-0_2001.jpg": (47.0, 2001, NAN, 3.0, NAN),
    "04/nm0000004_rm1_1980-1-1_2000.jpg": (day(1980, 1, 1), 2000, NAN, 3.0, NAN),
    "05/nm0000005_rm1_1980-1-1_2000.jpg": (day(1980, 1, 1), 2000, 1, -INF, NAN),
    "05/nm0000005_rm2_1980-1-1_2000.jpg": (day(1980, 1, 1), 2000, 1, 0.9, NAN),
    "05/nm0000005_rm3_1980-1-1_2000.jpg": (day(1980, 1, 1), 2000, 1, 3.0, 1.5),
    "06/nm0000006_rm1_1980-1-1_2000.jpg": (day(1980, 1, 1), 2000, 1, 3.0, NAN),  # no file
}
WIKI = {"17/10000217_1981-05-05_2009.jpg": (day(1981, 5, 5), 2009, 1, 4.3, NAN)}


def write_mat(path, name, rows):
    def cells(values):
        column = np.empty(len(values), object)
        column[:] = values
        return column

    columns = np.array(list(rows.values()), float).T
    fields = dict(
        zip(("dob", "photo_taken", "gender", "face_score", "second_face_score"), columns, strict=True)
    )
    fields["full_path"] = cells([*rows])
    fields["name"] = cells([""] * len(rows))
    fields["face_location"] = cells([np.array([[1.0, 1.0, 100.0, 100.0]])] * len(rows))
    scipy.io.savemat(path, {name: fields})


@pytest.fixture
def release(tmp_path, touch):
    root = tmp_path / "release"
    touch(root, [f"imdb_crop/{name}" for name in [*IMDB][:-1]])
    touch(root, [f"wiki_crop/{name}" for name in WIKI])
    write_mat(root / "imdb_crop/imdb.mat", "imdb", IMDB)
    write_mat(root / "wiki_crop/wiki.mat", "wiki", WIKI)
    return root


def test_ages_are_computed_from_dates(release):
    table = read_imdb_wiki(release)
    frame = table.frame.set_index("id")
    expected = {  # age, gender, subject
        "imdb_wiki/imdb/01/nm0000001_rm1_1899-5-10_1968.jpg": (69, 0, "nm0000001"),
        "imdb_wiki/imdb/01/nm0000001_rm2_1899-5-10_1970.jpg": (71, 0, "nm0000001"),
        "imdb_wiki/imdb/02/nm0000002_rm1_1924-6-30_1974.jpg": (50, 1, "nm0000002"),
        "imdb_wiki/imdb/02/nm0000002_rm2_1924-7-1_1974.jpg": (49, 1, "nm0000002"),
        "imdb_wiki/imdb/03/nm0000003_rm1_1990-1-1_1980.jpg": (-1, 0, "nm0000003"),
        "imdb_wiki/imdb/03/nm0000003_rm2_0-0-0_2001.jpg": (-1, 1, "nm0000003"),
        "imdb_wiki/imdb/04/nm0000004_rm1_1980-1-1_2000.jpg": (20, -1, "nm0000004"),
        "imdb_wiki/wiki/17/10000217_1981-05-05_2009.jpg": (28, 0, "10000217"),
    }
    labels = frame.assign(age=frame["age_low"].fillna(-1))[["age", "gender", "subject"]]
    assert {name: tuple(labels.loc[name]) for name in labels.index} == expected
    assert frame["age_low"].equals(frame["age_high"])


def test_nothing_is_dropped_silently(release):
    report = read_imdb_wiki(release).report
    assert (report.read, report.kept) == (13, 8)
    assert report.reasons() == {
        "face score below 1": 2, "a second face": 1, "file not found": 1, "no label": 1,
    }  # fmt: skip
    assert [note.reason for note in report.notes] == ["age is outside 0 to 100: unknown"] * 3


def test_the_filter_is_a_choice(release):
    table = read_imdb_wiki(release, min_face_score=-INF, one_face=False, max_age=60)
    assert len(table) == 11
    assert table.frame["age_low"].max() == 50
    assert table.label_rule == "imdb+wiki face score from -inf, age to 60"


def test_one_part_suffices(release):
    (release / "imdb_crop/imdb.mat").unlink()
    table = read_imdb_wiki(release)
    assert table.frame["id"].tolist() == ["imdb_wiki/wiki/17/10000217_1981-05-05_2009.jpg"]
    assert read_imdb_wiki(release / "wiki_crop").frame["id"].equals(table.frame["id"])


def test_a_damaged_file_or_another_struct_is_an_error(release):
    mat = release / "wiki_crop/wiki.mat"
    mat.write_bytes(mat.read_bytes()[:200])
    with pytest.raises(DataError, match=r"wiki\.mat: cannot be read"):
        read_imdb_wiki(release)
    scipy.io.savemat(mat, {"wiki": {"dob": [1.0]}})
    with pytest.raises(DataError, match=r"wiki\.mat: the struct 'wiki' has no photo_taken, full_path"):
        read_imdb_wiki(release)


def test_release(check_release, release):
    check_release("imdb_wiki", release, compared=1)
    assert IMDBWiki(root=str(release)).protocol == "subject_exclusive"
