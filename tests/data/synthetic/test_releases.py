import csv
import hashlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import cv2
import pytest

from mtmsa_lightning.data.datasets.adience import read_adience
from mtmsa_lightning.data.datasets.morph import read_morph
from mtmsa_lightning.data.datasets.utkface import read_utkface
from mtmsa_lightning.data.synthetic import releases, write_adience, write_morph, write_utkface
from mtmsa_lightning.data.synthetic.drawing import draw_face
from mtmsa_lightning.errors import DataError

WRITERS = {"morph": write_morph, "adience": write_adience, "utkface": write_utkface}
N, SIZE = 60, 64
MORPH_NAME = re.compile(r"Album2/(\d{6})_(\d{1,2})([MF])(\d{2})\.JPG")
UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)\.jpg\.chip\.jpg")


@pytest.fixture(scope="module", params=WRITERS)
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """One finished tree of every layout, by name."""
    base = tmp_path_factory.mktemp("trees")
    for name, write in WRITERS.items():
        write(base / name, n_faces=N, seed=1, size=SIZE)
    return {name: base / name for name in WRITERS}


def digests(root):
    """Return the hash of every file by its path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def morph_rows(root):
    with (root / "morph_2008_nonCommercial.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def adience_folds(root):
    folds = []
    for fold in range(5):
        with (root / f"fold_{fold}_data.txt").open(newline="") as file:
            folds.append(list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)))
    return folds


def day(text):
    return datetime.strptime(text, "%m/%d/%Y").date()


# ---------------------------------------------------------------------------- all layouts


def test_bytes_depend_on_the_seed_alone(trees, layout, tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "draw_face", draw_face)  # conftest.py keeps what it draws
    write = WRITERS[layout]
    for name, workers in (("once", 3), ("again", 1)):
        write(tmp_path / name, n_faces=20, seed=1, size=SIZE, workers=workers)
    write(tmp_path / "other", n_faces=10, seed=2, size=SIZE)
    assert digests(tmp_path / "again") == digests(tmp_path / "once")
    assert not set(digests(tmp_path / "other").values()) & set(digests(trees[layout]).values())


def test_every_image_decodes_at_the_asked_size(trees, layout):
    images = [path for path in trees[layout].rglob("*") if path.suffix in (".jpg", ".JPG")]
    assert len(images) >= N
    assert {cv2.imread(str(path)).shape for path in images} == {(SIZE, SIZE, 3)}


def test_the_record_names_what_was_asked_for(trees, layout):
    record = json.loads((trees[layout] / "synthetic.json").read_text())
    assert record.pop("generator") >= 1
    assert record == {"layout": layout, "n_faces": N, "seed": 1, "size": SIZE}


def test_a_finished_tree_is_not_drawn_again(trees, layout, monkeypatch):
    monkeypatch.setattr(releases, "draw_face", None)
    WRITERS[layout](trees[layout], n_faces=N, seed=1, size=SIZE)


@pytest.mark.parametrize("change", [{"seed": 2}, {"n_faces": N + 1}, {"size": SIZE + 1}])
def test_other_settings_do_not_replace_a_tree(trees, layout, change):
    before = digests(trees[layout])
    with pytest.raises(DataError, match=r"other settings.*choose a new folder"):
        WRITERS[layout](trees[layout], **{"n_faces": N, "seed": 1, "size": SIZE, **change})
    assert digests(trees[layout]) == before


def test_another_layout_does_not_replace_a_tree(trees):
    with pytest.raises(DataError, match="other settings"):
        write_utkface(trees["morph"], n_faces=N, seed=1, size=SIZE)


@pytest.mark.parametrize("name", ["photo.jpg", "synthetic.json"])
def test_foreign_data_is_never_touched(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match="choose a new folder"):
        write_morph(tmp_path, n_faces=10, size=SIZE)
    assert digests(tmp_path) == {name: hashlib.sha256(b"mine").hexdigest()}


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DataError, match="choose a new folder"):
        write_morph(tmp_path / "data", n_faces=10, size=SIZE)


def test_too_few_faces_are_refused(tmp_path, layout):
    with pytest.raises(DataError, match="at least 10"):
        WRITERS[layout](tmp_path / "new", n_faces=9, size=SIZE)
    assert not (tmp_path / "new").exists()


def test_the_smallest_tree_can_be_read(tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name, n_faces=10, size=SIZE)
    assert read_morph(tmp_path / "morph").frame["subject"].nunique() >= 5
    assert set(read_adience(tmp_path / "adience").frame["fold"]) == set(range(5))
    assert len(read_utkface(tmp_path / "utkface").frame) == 12


def test_an_empty_folder_is_filled(tmp_path):
    write_morph(tmp_path, n_faces=10, size=SIZE)
    assert len(morph_rows(tmp_path)) == 10


def test_a_failure_midway_leaves_nothing(tmp_path, layout, monkeypatch):
    drawn = []

    def fail(*args):
        drawn.append(args)
        if len(drawn) == 15:
            raise OSError("disk full")
        return draw(*args)

    draw = releases.draw_face
    monkeypatch.setattr(releases, "draw_face", fail)
    with pytest.raises(OSError, match="disk full"):
        WRITERS[layout](tmp_path / "tree", n_faces=40, size=SIZE)
    assert not list(tmp_path.iterdir())


def test_a_kill_midway_leaves_no_tree(tmp_path):
    program = f"""
import os
from mtmsa_lightning.data.synthetic import releases
draw, drawn = releases.draw_face, []
def die(*args):
    drawn.append(args)
    if len(drawn) == 15:
        os.kill(os.getpid(), 9)
    return draw(*args)
releases.draw_face = die
releases.write_morph({str(tmp_path / "tree")!r}, n_faces=40, size={SIZE})
"""
    killed = subprocess.run([sys.executable, "-"], input=program, text=True, timeout=60, check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "tree").exists()
    write_morph(tmp_path / "tree", n_faces=40, size=SIZE)
    assert len(morph_rows(tmp_path / "tree")) == 40


def test_two_writers_of_one_tree_both_succeed(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(write_morph, tmp_path / "tree", n_faces=20, size=SIZE) for _ in range(2)]
        assert [job.result() for job in jobs] == [None, None]
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_writing_needs_neither_torch_nor_a_main_module(tmp_path):
    program = f"""
import sys
from mtmsa_lightning.data.synthetic import write_morph
write_morph({str(tmp_path / "tree")!r}, n_faces=10, size={SIZE})
print(sorted({{"torch", "lightning", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-"], input=program, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_opencv_keeps_its_threads(tmp_path):
    before = cv2.getNumThreads()
    write_morph(tmp_path / "tree", n_faces=10, size=SIZE)
    assert cv2.getNumThreads() == before


# ---------------------------------------------------------------------------- MORPH


def test_morph_table_and_names(trees):
    root = trees["morph"]
    rows = morph_rows(root)
    assert ",".join(rows[0]) == releases.MORPH_COLUMNS
    assert len(rows) == N
    assert {path.relative_to(root).as_posix() for path in root.glob("Album2/*")} == {r["photo"] for r in rows}
    for row in rows:
        subject, picture, _, age = MORPH_NAME.fullmatch(row["photo"]).groups()
        assert (str(int(subject)), picture, age) == (row["id_num"], row["picture_num"], row["age"])
        assert (row["facial_hair"], row["glasses"]) == ("", "")
        assert row["race"] in "BWHAO"
        assert row["gender"] in "MF"


def test_morph_ages_follow_from_the_dates(trees):
    for row in morph_rows(trees["morph"]):
        born, taken = day(row["dob"]), day(row["doa"])
        years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
        assert int(row["age"]) == years
        assert 16 <= years <= 77


def test_morph_age_diff_counts_days(trees):
    previous = {}
    for row in morph_rows(trees["morph"]):
        taken, before = day(row["doa"]), previous.get(row["id_num"])
        assert row["age_diff"] == ("" if before is None else str((taken - before).days))
        previous[row["id_num"]] = taken


@pytest.mark.parametrize("seed", range(20))
def test_morph_dirt_is_there_for_any_seed(seed):
    _, texts = releases._plan_morph(40, seed)
    rows = list(csv.DictReader(texts["morph_2008_nonCommercial.csv"].splitlines()))
    disagreeing = [row for row in rows if MORPH_NAME.fullmatch(row["photo"])[3] != row["gender"]]
    assert len(disagreeing) == 1
    births, races = defaultdict(set), defaultdict(set)
    for row in rows:
        births[row["id_num"]].add(row["dob"])
        races[row["id_num"]].add(row["race"])
    assert max(map(len, births.values())) == 2
    assert max(map(len, races.values())) == 2


def test_morph_spread():
    pictures, _ = releases._plan_morph(1500, 0)
    ages = [picture.age for picture in pictures]
    subjects = {picture.files[0].split("_")[0] for picture in pictures}
    assert 30 < sum(ages) / len(ages) < 42
    assert 3 < len(pictures) / len(subjects) < 5


def test_morph_reader(trees):
    table = read_morph(trees["morph"])
    assert len(table.frame) == N
    assert "gender x1" in str(table.report)


# ---------------------------------------------------------------------------- Adience


def test_adience_columns_and_files(trees):
    root = trees["adience"]
    named = set()
    for row in (row for rows in adience_folds(root) for row in rows):
        assert "\t".join(row) == releases.ADIENCE_COLUMNS.replace(" ", "\t")
        assert None not in row.values()
        for folder, prefix in (("aligned", "landmark_aligned_face"), ("faces", "coarse_tilt_aligned_face")):
            named.add(f"{folder}/{row['user_id']}/{prefix}.{row['face_id']}.{row['original_image']}")
    assert {path.relative_to(root).as_posix() for path in root.glob("*/*/*")} == named


@pytest.mark.parametrize("column", ["user_id", "face_id"])
def test_adience_people_stay_in_one_fold(trees, column):
    folds = [{row[column] for row in rows} for rows in adience_folds(trees["adience"])]
    assert all(folds)
    assert sum(map(len, folds)) == len(set.union(*folds))


@pytest.mark.parametrize("seed", range(5))
def test_adience_dirt_is_there_for_any_seed(seed):
    _, texts = releases._plan_adience(400, seed)
    lines = [line.split("\t") for text in texts.values() for line in text.splitlines()[1:]]
    ages = {line[3] for line in lines}
    assert "None" in ages
    assert any(age.isdecimal() for age in ages)
    assert ages & {"(8, 23)", "(27, 32)", "(25, 23)", "(38, 42)", "(38, 48)"}
    assert {line[4] for line in lines} == {"f", "m", "u", ""}
    assert {line[3] for line in lines if line[4] == "u"} <= {"(0, 2)", "2", "3", "None"}
    assert len(lines) > len(set(map(tuple, lines))) == 400


@pytest.mark.parametrize("variant", ["aligned", "faces"])
def test_adience_reader(trees, variant):
    canonical = read_adience(trees["adience"], "canonical", variant)
    extended = read_adience(trees["adience"], "extended", variant)
    assert 0.8 * N < len(canonical.frame) < len(extended.frame) + 2 < N + 2


# ---------------------------------------------------------------------------- UTKFace


def test_utkface_names(trees):
    names = [path.name for path in trees["utkface"].rglob("*.jpg")]
    odd = sorted(name for name in names if not UTKFACE_NAME.fullmatch(name))
    assert len(names) == N + 3
    assert len(odd) == 2
    assert sum(bool(re.fullmatch(r"\d+_[01]_\d{17}\.jpg\.chip\.jpg", name)) for name in odd) == 1
    assert sum(bool(re.fullmatch(r"\d+_[01]_[0-4]_\d{17}jpg\.chip\.jpg", name)) for name in odd) == 1


def test_utkface_copies(trees):
    copies = defaultdict(set)
    for path in trees["utkface"].rglob("*.jpg"):
        copies[path.read_bytes()].add(path.name.rsplit("_", 1)[0])
    files = list(trees["utkface"].rglob("*.jpg"))
    assert len(files) - len(copies) == 3
    assert sorted(map(len, copies.values()))[-2:] == [1, 2]


def test_utkface_reader(trees):
    report = str(read_utkface(trees["utkface"]).report)
    assert "name lacks a field x1" in report
    assert "an exact copy has other labels x2" in report
