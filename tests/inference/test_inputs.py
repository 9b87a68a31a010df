"""What paths stand for; prepared sets are written by `mtmsa prepare` itself."""

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.inference.inputs import find_inputs

IMAGES = ["a.jpg", "b/c.PNG", "b/d/ä 1.webp", "e.JPEG"]
OTHERS = ["notes.txt", "b/._c.png", ".thumbnails/a.jpg", "b/readme"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in IMAGES:
        file = tmp_path / "faces" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        done, encoded = cv2.imencode(file.suffix.lower(), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        assert done
        file.write_bytes(encoded.tobytes())
    for name in OTHERS:
        (tmp_path / "faces" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "faces" / name).write_text("no image")
    return tmp_path / "faces"


def found(*paths: object) -> list[str]:
    return [each.file for each in find_inputs(list(map(str, paths)))]


def test_folders_are_searched_for_images_and_hidden_files_skipped(folder):
    assert found(folder) == [str(folder / name) for name in IMAGES]
    assert found(folder / "b") == [str(folder / name) for name in IMAGES[1:3]]


def test_paths_keep_their_order_and_each_file_comes_once(folder):
    paths = [folder / "e.JPEG", folder / "b", folder, folder / "b" / "c.PNG"]
    assert found(*paths) == [str(folder / IMAGES[number]) for number in (3, 1, 2, 0)]


def test_a_file_given_by_name_counts_whatever_its_ending(folder):
    assert found(folder / "notes.txt") == [str(folder / "notes.txt")]


def test_a_circle_of_links_ends(folder):
    (folder / "b" / "up").symlink_to(folder)
    assert found(folder) == [str(folder / name) for name in IMAGES]


def test_relative_paths_stay_relative(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert found("faces/a.jpg") == [os.path.join("faces", "a.jpg")]  # noqa: PTH118


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [("*.jpg", [0]), ("*", [0, 1, 2, 3]), ("b/**/*.[wpP]*", [1, 2]), ("**/*.[jJ]*", [0, 3])],
)
def test_a_pattern_that_the_shell_left_alone(folder, pattern, numbers):
    assert found(folder / pattern) == [str(folder / IMAGES[number]) for number in numbers]


def test_a_name_with_the_signs_of_a_pattern_is_that_file(folder):
    (folder / "a.jpg").rename(folder / "a[1].jpg")
    assert found(folder / "a[1].jpg") == [str(folder / "a[1].jpg")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "person,path\nx,a.jpg\ny,b/c.PNG\nz,gone.jpg\nx,a.jpg\n"),
        ("list.tsv", "path\tperson\na.jpg\tx\nb/c.PNG\ty\ngone.jpg\tz\n"),
        ("list.csv", "\ufeffpath;person\na.jpg;x\nb/c.PNG;y\n\ngone.jpg;z\n"),
    ],
)
def test_a_table_lists_images_relative_to_its_folder(folder, name, text):
    (folder / name).write_text(text)
    assert found(folder / name) == [str(folder / name) for name in ("a.jpg", "b/c.PNG", "gone.jpg")]


def test_boxes_in_a_table_are_not_used(folder, caplog):
    for columns in ("X1,y1,x2,y2", "x,y,width,height", "bbox"):
        (folder / "list.csv").write_text(f"path,{columns}\na.jpg{',1' * (columns.count(',') + 1)}\n")
        caplog.clear()
        assert len(find_inputs([folder / "list.csv"])) == 1
        assert "list.csv: its face boxes are not used" in caplog.text
    (folder / "list.csv").write_text("path,x,y\na.jpg,1,1\n")
    caplog.clear()
    find_inputs([folder / "list.csv"])
    assert "boxes" not in caplog.text


def test_absolute_paths_in_a_table(folder, tmp_path):
    (tmp_path / "list.csv").write_text(f"path\n{folder / 'a.jpg'}\n")
    assert found(tmp_path / "list.csv") == [str(folder / "a.jpg")]


def test_what_cannot_be_meant_is_told_with_its_name(folder):
    (folder / "empty").mkdir()
    (folder / "list.csv").write_text("file\na.jpg\n")
    (folder / "none.csv").write_text("path\n \n")
    for path, said in [
        ("gone.jpg", r"gone\.jpg: no such file or folder"),
        ("gone/*.jpg", "the pattern matches no image"),
        ("*.txt", r"the pattern matches no image, folder or table, only .*notes\.txt"),
        ("empty", r"no image \(JPEG, PNG.*\) in .*empty"),
        ("list.csv", "no column 'path'"),
        ("none.csv", "the column `path` is empty"),
        ("\udce4.jpg", r"\\udce4\.jpg': the name is not valid UTF-8"),
    ]:
        with pytest.raises(DataError, match=said):
            find_inputs([str(folder / path)])


def test_an_empty_folder_among_others_is_told(folder, caplog):
    (folder / "b" / "empty").mkdir()
    assert found(folder / "b" / "empty", folder / "a.jpg") == [str(folder / "a.jpg")]
    assert "empty: there is no image in it" in caplog.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("b", "b: skipped 1 file that is not an image: readme"),
        ("", ": skipped 2 files that are not images: b/readme, notes.txt"),
        ("[ben]*", ": skipped 1 file that is not an image: "),
    ],
)
def test_files_that_are_no_images_are_counted_and_named(folder, caplog, path, said):
    with caplog.at_level("INFO"):
        found(folder / path)
    assert said in caplog.text


# ---------------------------------------------------------------- prepared sets


@pytest.fixture(scope="module")
def prepared(morph_root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    main(
        [
            "prepare",
            "--data",
            "morph",
            "--root",
            str(morph_root),
            "--out",
            str(out),
            "--size",
            "64",
            "--detect=false",
        ]
    )
    return out


def test_a_prepared_set_comes_in_the_order_of_its_table_with_the_pixels_of_its_store(prepared):
    inputs = find_inputs([prepared])
    table = pd.read_parquet(prepared / "faces.parquet")
    assert [each.file for each in inputs] == [str(prepared / path) for path in table["path"]]
    assert [each.known.id for each in inputs] == table["id"].tolist()
    assert inputs[3].pixels is not None
    np.testing.assert_array_equal(inputs[3].read(), read_image(inputs[3].file))
    assert np.shares_memory(inputs[3].read(), inputs[4].pixels.array), "a view of the mapped file"
    assert np.isnan(inputs[0].known.box).all(), "no face was looked for"


def test_a_store_without_pixels_is_read_from_its_files(prepared, tmp_path):
    out = tmp_path / "set"
    main(["prepare", "--data", "folder", "--root", str(prepared / "crops"), "--out", str(out), "--size", "64",
          "--detect=false", "--no_face", "centre", "--pixels=false"])  # fmt: skip
    inputs = find_inputs([out])
    assert inputs[0].pixels is None
    assert inputs[0].read().shape == (64, 64, 3)


def test_photos_and_sets_side_by_side_keep_their_order_and_cross_to_other_processes(prepared, folder):
    inputs = find_inputs([folder / "a.jpg", prepared, prepared, folder])
    assert len(inputs) == 67 + 4
    assert (inputs.photos, [len(each) for each in inputs.prepared]) == (4, [67])
    assert [inputs[at].file for at in (0, 68, 69, 70)] == [str(folder / name) for name in IMAGES]
    with pytest.raises(IndexError):
        inputs[71]
    again = pickle.loads(pickle.dumps(inputs))
    assert again.fingerprint == inputs.fingerprint
    assert len(pickle.dumps(inputs)) < 67 * 64 * 64, "no pixels cross"


def test_single_crops_of_a_set_are_its_faces(prepared, folder, monkeypatch, caplog):
    table = pd.read_parquet(prepared / "faces.parquet")
    monkeypatch.chdir(prepared / "crops")
    names = [path.removeprefix("crops/") for path in table["path"][[5, 2]]]
    with caplog.at_level("INFO"):
        inputs = find_inputs([names[0], folder / "a.jpg", prepared / "crops" / names[1], names[0], prepared])
    assert f"2 files are crops of the prepared set {prepared}: no face is looked for" in caplog.text
    assert [len(block) for block in inputs.blocks] == [1, 1, len(table) - 1]
    assert [inputs[at].file for at in (0, 2)] == [names[0], str(prepared / "crops" / names[1])]
    assert [inputs[at].known.id for at in (0, 2)] == table["id"][[5, 2]].tolist()
    np.testing.assert_array_equal(inputs[2].read(), read_image(inputs[2].file))
    assert {each.known.id for each in inputs if each.known} == {*table["id"]}
    assert find_inputs(["**/*.jpg"]).photos == 0


def test_a_file_beside_the_crops_that_the_set_does_not_list_is_a_photo(prepared):
    other = prepared / "crops" / "other.jpg"
    try:
        other.write_bytes(b"")
        assert find_inputs([other]).photos == 1
    finally:
        other.unlink()


def test_the_fingerprint_tells_other_names_sizes_and_orders(folder):
    first = find_inputs([folder]).fingerprint
    assert find_inputs([folder]).fingerprint == first
    assert find_inputs([folder / "b", folder]).fingerprint != first
    (folder / "a.jpg").write_bytes(b"shorter")
    assert find_inputs([folder]).fingerprint != first
