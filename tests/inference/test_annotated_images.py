"""What is drawn: words stand clear of the edges of their ground, and names fit below their tiles."""

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.inference.annotated_images import LEAST_SIDE, LONGER_SIDE, annotate, label
from mtmsa_lightning.inference.inputs import BOX, Input

WORDS = {"age_mean": 161.2, "age_low90": 133.0, "age_high90": 189.0, "gender_female": 0.9, "gender_male": 0.1}
GREEN = np.array([20, 110, 40])


def annotated(tmp_path, size: tuple[int, int], box: tuple[float, ...]) -> np.ndarray:
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((*size, 3), 128, np.uint8))
    face = pd.DataFrame([{"file": "photo.png", "face": 0, **dict(zip(BOX, box, strict=True)), **WORDS}])
    annotate(Input(str(tmp_path / "photo.png")), face, tmp_path / "drawn.png")
    return cv2.imread(str(tmp_path / "drawn.png"))[..., ::-1].astype(int)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((800, 900), (300, 300, 420, 450)),
        ((800, 900), (300, 300, 700, 700)),  # large letters
        ((800, 900), (300, 5, 420, 200)),  # no room above
        ((800, 900), (850, 300, 899, 450)),  # nor to the right
        ((60, 50), (10, 10, 40, 50)),
    ],
)
def test_words_stand_clear_of_the_edges_of_their_ground(size, box, tmp_path):
    drawn = annotated(tmp_path, size, box)
    ground = (drawn == GREEN).all(2)
    words = ~ground & (drawn != 128).any(2)
    rows, columns = np.flatnonzero(words.any(1)), np.flatnonzero(words.any(0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    for band in (
        ground[top - 4 : top, left:right],
        ground[bottom + 1 : bottom + 5, left:right],
        ground[top:bottom, left - 4 : left],
        ground[top:bottom, right + 1 : right + 5],
    ):
        assert band.shape[0] >= 4
        assert band.shape[1] >= 4
        assert band.all()


@pytest.mark.parametrize("box", [(10, 10, 390, 395), (100, 200, 250, 380), (100, 30, 250, 395)])
def test_words_never_cover_their_face(box, tmp_path):
    left, top, right, bottom = box
    assert (annotated(tmp_path, (400, 400), box)[top + 3 : bottom - 2, left + 3 : right - 2] == 128).all()


@pytest.mark.parametrize(
    ("size", "longer"), [((90, 60), LEAST_SIDE), ((500, 900), 900), ((1000, 3200), LONGER_SIDE)]
)
def test_pictures_have_a_size_at_which_they_can_be_read(size, longer, tmp_path):
    assert max(annotated(tmp_path, size, (10, 10, 40, 50)).shape) == longer


@pytest.mark.parametrize(
    ("name", "face", "said"),
    [
        ("a b.jpg", 0, "a b.jpg"),
        ("a b.jpg", 3, "a b.jpg #3"),
        ("zw\u00f6lf.png", 0, "zwolf.png"),
        ("\u5199\u771f.jpg", 0, "??.jpg"),
        ("a_name_of_twenty.jpeg", 0, "a_name_of..enty.jpeg"),
        ("IMG_2024-05-17_18-33-01_edited.jpg", 12, "IMG_202..ted.jpg #12"),
    ],
)
def test_names_fit_below_their_tiles(name, face, said):
    assert label(name, face) == said
    assert len(said) <= 20
