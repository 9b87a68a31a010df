import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mtmsa_lightning.data.folder import FaceFolder, find_images, unlabelled_table
from mtmsa_lightning.data.images import read_image
from mtmsa_lightning.data.transforms import FaceTransform
from mtmsa_lightning.errors import DataError

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


def test_folders_are_searched_for_images_and_hidden_files_left_out(folder):
    assert find_images([folder]) == find_images([str(folder)]) == [str(folder / name) for name in IMAGES]
    assert find_images([folder / "b"]) == [str(folder / name) for name in IMAGES[1:3]]


def test_paths_keep_their_order_and_each_file_comes_once(folder):
    paths = [folder / "e.JPEG", folder / "b", folder, folder / "b" / "c.PNG"]
    assert find_images(paths) == [str(folder / IMAGES[number]) for number in (3, 1, 2, 0)]


def test_a_file_given_by_name_counts_whatever_its_ending(folder):
    assert find_images([folder / "notes.txt"]) == [str(folder / "notes.txt")]


def test_a_circle_of_links_ends(folder):
    (folder / "b" / "up").symlink_to(folder)
    assert find_images([folder]) == [str(folder / name) for name in IMAGES]


def test_relative_paths_stay_relative(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert find_images([Path("faces/a.jpg")]) == [os.path.join("faces", "a.jpg")]  # noqa: PTH118


def test_nothing_found_is_an_error_that_names_the_place(folder):
    with pytest.raises(DataError, match=r"gone\.jpg: no such file or folder"):
        find_images([folder, folder / "gone.jpg"])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"no image \(\.bmp, \.jpeg.*\) in .*empty"):
        find_images([folder / "empty"])


def test_labels_are_unknown():
    table = unlabelled_table(["x.jpg", "y.jpg"])
    assert table["id"].tolist() == table["path"].tolist() == ["x.jpg", "y.jpg"]
    assert table[["age_low", "age_high"]].isna().all(axis=None)
    assert (table[["gender", "race"]] == -1).all(axis=None)


@pytest.mark.parametrize("ranks", [1, 3])
def test_faces_come_in_order_cropped_as_in_training(folder, ranks):
    data = FaceFolder([folder], image_size=32, crop=0.5, batch_size=3, num_workers=0)
    seen = {}
    for rank in range(ranks):
        data.trainer = SimpleNamespace(world_size=ranks, global_rank=rank)
        for batch in data.predict_dataloader():
            for name, image, counts in zip(batch["id"], batch["image"], batch["counted"], strict=True):
                if counts:
                    assert name not in seen
                    seen[name] = image
    assert sorted(seen) == [str(folder / name) for name in IMAGES]
    assert list(seen) == sorted(seen) or ranks > 1
    for name, image in seen.items():
        np.testing.assert_array_equal(image.permute(1, 2, 0), FaceTransform(32, 0.5)(read_image(name)))


def test_unreadable_files_are_noted_and_not_counted(folder):
    data = FaceFolder([folder / "a.jpg", folder / "notes.txt"], image_size=32, num_workers=0)
    (batch,) = [data.on_before_batch_transfer(batch, 0) for batch in data.predict_dataloader()]
    assert batch["counted"].tolist() == [True, False]
    assert list(data.faults) == [str(folder / "notes.txt")]
    assert "not an image" in data.faults[str(folder / "notes.txt")]
