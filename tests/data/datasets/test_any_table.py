"""Tables that hold anything: a reader returns faces, or raises one DataError that names the file."""

import csv
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtmsa_lightning.data.datasets.adience import read_adience
from mtmsa_lightning.data.datasets.face_csv import FaceCSV, read_face_csv
from mtmsa_lightning.data.datasets.morph import read_morph
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.data.splits.split_file import apply_split_file
from mtmsa_lightning.errors import LONGEST_MESSAGE, DataError
from mtmsa_lightning.inference.inputs import find_inputs

EXAMPLES = int(os.environ.get("MTMSA_FUZZ_EXAMPLES", "12"))
"""Number of tables per reader; more by hand."""

SPECIAL = [
    "", " ", "-1", "0", "25", "25.0", "1e1", "0x1f", "+25", "\uff12\uff15", "1_0", "nan", "NaN", "inf",
    "1e400", "9" * 400, "None", "NULL", "m", "F", "female", "white", "W", "u", "train", "val", "test",
    "(25, 32)", "(0,2)", "35", "a.jpg", "./a.jpg", "../a.jpg", "/a.jpg", "C:\\a.jpg", "d/", ".", "..",
    "é.jpg", "e\u0301.jpg", "a\0b", "\0", "\ufffd", "\ufeff", "\u2028", "\x1b[31m", "a" * 10_000, "'",
    '"', '""', "a,b", "a;b", "a\nb", "a\r\nb", "\t", "Album2/000001_0M25.JPG", "01/01/1970", "13/45/1970",
    "01/01/0001", "12/31/9999", "1", "000001", "03-Sep", "1970.0", "1970-05", "1970-01-01T00:00Z", "0.5",
    "1e308", "-1e9", "999999999", "10,5", "34,5", "70+", "<3",
]  # fmt: skip
"""Cells that often mean something else than they seem to, or nothing."""

cells = st.one_of(st.sampled_from(SPECIAL), st.text(max_size=12))

TABLES = {
    "csv": ["path", "age", "gender", "race", "subject", "fold", "split"],
    "pair": ["path", "age_low", "age_high", "gender", "fold"],
    "dates": ["path", "birth_date", "photo_date", "race"],
    "boxes": ["path", "age", "box_left", "box_top", "box_right", "box_bottom"],
    "sizes": ["path", "age", "x", "y", "width", "height", "subject"],
    "morph": ["id_num", "picture_num", "dob", "doa", "race", "gender", "age", "photo"],
    "adience": ["user_id", "original_image", "face_id", "age", "gender"],
    "split": ["id", "split"],
    "folds": ["id", "fold"],
    "list": ["path"],
}
GOOD = {
    "path": "a.jpg", "age": "25", "age_low": "3", "age_high": "5", "gender": "f", "race": "", "subject": "s",
    "fold": "0", "split": "train", "id_num": "1", "picture_num": "0", "dob": "01/01/1970",
    "doa": "01/01/1995", "photo": "Album2/000001_0M25.JPG", "user_id": "u", "original_image": "a.jpg",
    "face_id": "1", "id": "a.jpg", "birth_date": "1970-01-01", "photo_date": "1995-01-01", "box_left": "1",
    "box_top": "2", "box_right": "30", "box_bottom": "40", "x": "1", "y": "2", "width": "30", "height": "40",
}  # fmt: skip


def encoded(rows, delimiter, ending, encoding, quoted=False):
    stream = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    if delimiter == "\t":  # quotes mean nothing there
        rows = [[cell.translate({9: " ", 10: " ", 13: " "}) for cell in row] for row in rows]
        stream.write("".join("\t".join(row) + ending for row in rows))
    else:
        csv.writer(stream, delimiter=delimiter, lineterminator=ending, quoting=quoting).writerows(rows)
    return stream.getvalue().encode(encoding, errors="replace")


@st.composite
def tables(draw, kind):
    """Draw a table as bytes: good rows in which some cells, rows or bytes are anything."""
    header = TABLES[kind]
    rows = [[GOOD[name] for name in header] for _ in range(draw(st.integers(0, 4)))]
    for row in rows:
        for at in draw(st.sets(st.integers(0, len(header) - 1), max_size=2)):
            row[at] = draw(cells)
    for row in draw(st.lists(st.lists(cells, max_size=9), max_size=2)):
        rows.insert(draw(st.integers(0, len(rows))), row)
    if draw(st.integers(0, 9)) == 0:
        header = draw(st.lists(st.one_of(st.sampled_from(header), cells), max_size=8))
    delimiter = "\t" if kind == "adience" else draw(st.sampled_from(",\t;"))
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    data = encoded([header, *rows], delimiter, ending, encoding)
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 3)) == 0 else data


@pytest.fixture(scope="module")
def root():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in (
            "a.jpg",
            "e\u0301.jpg",
            "Album2/000001_0M25.JPG",
            "aligned/u/landmark_aligned_face.1.a.jpg",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        yield root


def read_csv(root):
    data = FaceCSV(root=str(root), num_workers=0)
    make_split(data.table, data.protocol, val_fraction=0.2)


def read_split(root):
    (root / "good.csv").write_text("path,age\na.jpg,25\n\u00e9.jpg,30\n")
    apply_split_file(read_face_csv(root, "good.csv"), root / "split.csv")


READERS = {
    "csv": ("faces.csv", read_csv),
    "pair": ("faces.csv", read_csv),
    "dates": ("faces.csv", read_csv),
    "boxes": ("faces.csv", read_csv),
    "sizes": ("faces.csv", read_csv),
    "morph": ("morph_2008_nonCommercial.csv", read_morph),
    "adience": ("fold_0_data.txt", read_adience),
    "split": ("split.csv", read_split),
    "folds": ("split.csv", read_split),
    "list": ("list.csv", lambda root: [find_inputs([root / "list.csv"])[0]]),
}


def error_of(work):
    try:
        work()
    except DataError as error:
        return str(error)
    return None


def check(root, kind, data):
    name, read = READERS[kind]
    if kind == "adience":
        good = encoded([TABLES[kind], [GOOD[column] for column in TABLES[kind]]], "\t", "\n", "utf-8")
        for fold in range(1, 5):
            (root / f"fold_{fold}_data.txt").write_bytes(good)
    (root / name).write_bytes(data)
    message = error_of(lambda: read(root))
    assert message is None or str(root) in message or "protocol" in message
    assert message is None or len(message) <= LONGEST_MESSAGE


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_or_named(kind, root):
    @settings(max_examples=EXAMPLES, database=None)
    @example(b"")
    @example(b"\xef\xbb\xbf")
    @example(",".join(TABLES[kind]).encode())
    @given(tables(kind))
    def property_of(data):
        check(root, kind, data)

    property_of()


@pytest.mark.parametrize("kind", ["csv", "pair", "dates", "boxes", "sizes", "morph"])
@settings(max_examples=EXAMPLES, database=None)
@given(at=st.integers(0, 7), cell=cells)
def test_one_wrong_cell_costs_one_row_or_names_it(kind, at, cell, root):
    """Beside a good row, a cell is read, or its row is dropped or named by its line."""
    header = TABLES[kind]
    good = [GOOD[name] for name in header]
    bad = list(good)
    bad[at % len(header)] = cell
    (root / READERS[kind][0]).write_bytes(encoded([header, good, bad, good], ",", "\n", "utf-8", quoted=True))
    read = read_morph if kind == "morph" else read_face_csv
    found = []
    message = error_of(lambda: found.append(read(root)))
    if message is not None:
        assert "line 3" in message
    else:
        assert len(found[0]) + len(found[0].report.dropped) == 3
        assert all(remark.line == 3 for remark in found[0].report.dropped)
