import hashlib
import os

import numpy as np
import pytest

from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.data.release_files import (
    ImageListing,
    content_column,
    expected_tree_error,
    find_file,
    hash_files,
    hash_ids,
    list_images,
    nearest,
    read_delimited,
)
from mtmsa_lightning.errors import DataError


def read(tmp_path, text, delimiter=",", required=("a",)):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    report = ReadReport(str(path))
    return read_delimited(path, delimiter, required, report), report


def test_listing_is_sorted_relative_and_of_images_only(tmp_path, touch):
    touch(
        tmp_path,
        ["b/2.JPG", "a.png", "b/c/1.jpeg", "note.txt", "b/._2.JPG", "__MACOSX/._a.png", ".git/x.jpg"],
    )
    assert list(list_images(tmp_path)) == ["a.png", "b/2.JPG", "b/c/1.jpeg"]


def test_listing_tells_files_without_an_images_suffix_by_their_content(tmp_path):
    gif, raw, xl = b"GIF89a" + bytes(20), b"II*\0" + bytes(20), b"\xff\x0a" + bytes(20)
    files = {"IMG_1": gif, "a.heic": b"", "b.dat": gif, "c.txt": gif, "d.nef": raw, "e": xl, "f": b"text"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    listing = list_images(tmp_path)
    assert list(listing) == ["IMG_1", "a.heic", "b.dat"]
    assert listing.others == ["c.txt", "d.nef", "e", "f"]
    assert listing.unread == {"d.nef": "camera raw", "e": "JPEG XL"}


def test_listing_finds_other_capitals_but_prefers_the_exact_name():
    listing = ImageListing(["A/x.jpg", "a/X.JPG", "e\u0301.jpg"])
    assert listing.find("a/X.JPG") == "a/X.JPG"
    assert listing.find("A/X.jpg") == "A/x.jpg"
    assert listing.find("\u00e9.JPG") == "e\u0301.jpg"
    assert listing.find("b.jpg") is None
    assert "A/x.jpg" in listing
    assert len(listing) == 3


def test_listing_follows_links_once(tmp_path, touch):
    touch(tmp_path, ["real/1.jpg"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "root")
    assert list(list_images(tmp_path / "root")) == ["link/1.jpg"]


def test_names_that_are_no_text_are_skipped(tmp_path):
    (tmp_path / "ok.jpg").touch()
    try:
        with open(os.path.join(os.fsencode(tmp_path), b"\xff.jpg"), "w"):  # noqa: PTH118, PTH123
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert list(list_images(tmp_path)) == ["ok.jpg"]


def test_find_file_one_folder_down_in_any_capitals(tmp_path, touch):
    touch(tmp_path, ["b/c/T.csv", "b/T.CSV"])
    assert find_file(tmp_path, "t.csv") == tmp_path / "b/T.CSV"
    assert find_file(tmp_path, "u.csv") is None
    assert find_file(tmp_path / "absent", "t.csv") is None


def test_hashes_are_blake2b(tmp_path):
    paths = [tmp_path / name for name in ("x", "y")]
    for path in paths:
        path.write_bytes(path.name.encode())
    expected = [int(hashlib.blake2b(text, digest_size=8).hexdigest(), 16) for text in (b"x", b"y")]
    for actual in (hash_files(paths), hash_ids(["x", "y"])):
        assert actual.dtype == np.uint64
        assert actual.tolist() == expected
    assert hash_files([]).shape == hash_ids([]).shape == (0,)


def test_unreadable_files_hash_to_zero(tmp_path):
    (tmp_path / "x").write_text("x")
    paths = [tmp_path / "gone.jpg", tmp_path / "x"]
    assert hash_files(paths).tolist() == [0, *hash_ids(["x"]).tolist()]
    assert content_column(tmp_path, ["gone.jpg", "x"]) == ["", f"{hash_ids(['x'])[0]:016x}"]


def test_cells_stay_texts_and_lines_are_true(tmp_path):
    frame, report = read(tmp_path, '\ufeffa,b\nNone,\n\n"x\ny",007\n1,2\n')
    assert frame["a"].tolist() == ["None", "x\ny", "1"]
    assert frame["b"].tolist() == ["", "007", "2"]
    assert frame.index.tolist() == [2, 4, 6]
    assert (report.read, report.kept) == (3, 3)


def test_wrong_number_of_cells_is_reported(tmp_path):
    frame, report = read(tmp_path, "a,b\n1,2\n1\n1,2,3\n1,2,,\n")
    assert frame.index.tolist() == [2, 5]
    assert [(row.line, row.reason) for row in report.dropped] == [
        (3, "1 cells where the header has 2"),
        (4, "3 cells where the header has 2"),
    ]


def test_quotes_mean_nothing_between_tabs(tmp_path):
    frame, _ = read(tmp_path, 'a\tb\n"x\t1\ny"\t2\n', "\t")
    assert frame["a"].tolist() == ['"x', 'y"']


def test_bytes_that_are_no_utf8_do_not_crash(tmp_path):
    frame, _ = read(tmp_path, b"a,b\ncaf\xe9,1\n")
    assert frame["a"].tolist() == ["caf\ufffd"]


def test_header_may_differ_in_capitals(tmp_path):
    assert list(read(tmp_path, " A ,B\n1,2\n")[0].columns) == ["a", "B"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gendr,b\n", r"no column 'a'.*'gender' \(did you mean 'gendr'\?\); the header has \['gendr', 'b'\]"),
        ("", "the file is empty"),
        ("\ufeff", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("a,gender\n", "has a header, but no rows"),
        ("a,gender\n\n,\n", "has a header, but no rows"),
        ("a,gender\n1,2,3\n", "no row fits the header: line 2: 1 2 3: 3 cells where the header has 2"),
        ("a,gender,b,b\n", "'b' is repeated"),
    ],
)
def test_bad_headers(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, required=("a", "gender"))


def test_open_quote_is_an_error_that_says_so(tmp_path):
    with pytest.raises(DataError, match="quote left open"):
        read(tmp_path, 'a,b\n"' + "x,1\n" * 50_000)


def test_unreadable_table(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_delimited(tmp_path / "gone.csv", ",", (), ReadReport("x"))


def test_expected_tree(tmp_path):
    error = expected_tree_error(tmp_path, "no table", "\n<root>/\n  t.csv\n")
    assert str(error) == f"no table in {tmp_path}\nexpected:\n<root>/\n  t.csv"
    assert "does not exist" in str(expected_tree_error(tmp_path / "gone", "no table", "t"))


def test_nearest():
    assert nearest("randm", ["random", "folds"]) == " (did you mean 'random'?)"
    assert nearest("zzz", ["random"]) == ""
