"""Faces of photos reach the network as those of training did."""

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.align.canonical import canonical_landmarks
from mtmsa_lightning.align.crop import ALIGNED
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.prepared.format import ALREADY_ALIGNED, BOXED, preparation
from mtmsa_lightning.inference.cropping import Cropper, Preprocessing

FOUND = {"name": "RetinaFace"}


@pytest.mark.parametrize("crop", [1.0, 0.85])
def test_a_photo_is_cropped_to_the_very_pixels_that_prepare_and_training_make_of_it(
    crop, portrait, detector, tmp_path, capsys
):
    """At a size and margin that are nobody's default."""
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "portrait.png"), portrait[..., ::-1])
    options = ["--size", "200", "--margin", "0.4", "--num_workers", "1", "--pixels=false"]
    main(
        [
            "prepare",
            "--data",
            "folder",
            "--root",
            str(tmp_path / "photos"),
            "--out",
            str(tmp_path / "set"),
            *options,
        ]
    )
    table = pd.read_parquet(tmp_path / "set" / "faces.parquet")
    trained_on = FaceTransform(64, crop)(read_image(tmp_path / "set" / table["path"][0]))

    how = Preprocessing.of_checkpoint(64, crop, {"preparation": preparation(tmp_path / "set")})
    assert (how.margin, how.size, how.detects) == (0.4, 200, True)
    (face,) = Cropper(how).detected(portrait, detector)
    np.testing.assert_array_equal(face.image, trained_on)
    np.testing.assert_allclose(
        face.box, table.loc[0, ["box_left", "box_top", "box_right", "box_bottom"]].tolist()
    )
    assert face.score == table["score"][0]


@pytest.mark.parametrize("fraction", [1.0, 0.7])
@pytest.mark.parametrize("size", [(90, 120), (121, 80), (33, 33)])
def test_a_cropped_face_is_taken_as_training_takes_it(fraction, size, draw):
    photo = cv2.resize(draw(3), size)
    cropper = Cropper(Preprocessing(64, fraction))
    face = cropper.whole(photo)
    np.testing.assert_array_equal(face.image, FaceTransform(64, fraction)(photo))
    assert face.score is None
    assert face.landmarks is None
    left, top, right, bottom = (round(edge + 0.5) for edge in face.box)
    np.testing.assert_array_equal(face.image, FaceTransform(64)(photo[top:bottom, left:right]))


@pytest.mark.parametrize(
    ("provenance", "margin"),
    [
        (None, None),
        ({"dataset": "morph", "preparation": None}, None),
        ({"preparation": {"crop": {"detector": FOUND, "margin": 0.25, "size": 256}}}, 0.25),
        ({"preparation": {"crop": {"detector": ALREADY_ALIGNED, "margin": 0.0, "size": 256}}}, 0.0),
        ({"preparation": {"crop": {"detector": "none", "margin": 0.25, "size": 256}}}, None),
        ({"preparation": {"counts": {}}}, None),
    ],
)
def test_faces_are_looked_for_if_those_of_training_were_brought_to_one_position(provenance, margin):
    how = Preprocessing.of_checkpoint(64, 1.0, provenance)
    assert how.margin == margin
    assert how.detects == (margin is not None)
    said = "are detected and aligned with a margin of" if how.detects else "is used as one cropped face"
    assert said in how.describe()


@pytest.mark.parametrize(
    ("dataset", "said"), [("utkface", "as in the images of utkface"), ("morph", "unlike in training: expect")]
)
def test_it_is_said_where_faces_come_to_that_training_did_not_look_for(dataset, said):
    how = Preprocessing(64, dataset=dataset)
    assert said in how.describe(detect=True)
    assert "one cropped face, as in training" in how.describe()


def test_what_is_done_otherwise_than_in_training_is_said():
    how = Preprocessing.of_checkpoint(64, 1.0, {"preparation": {"crop": {"detector": FOUND, "margin": 0.25}}})
    assert "one cropped face, unlike in training" in how.describe(detect=False)
    boxed = Preprocessing.of_checkpoint(64, 1.0, {"preparation": BOXED})
    assert not boxed.detects
    assert "one cropped face, unlike in training" in boxed.describe()
    assert "aligned, unlike in training" in boxed.describe(detect=True)


def marked(landmarks: np.ndarray) -> np.ndarray:
    """A picture of 300 x 400 pixels with a white spot at every landmark."""
    photo = np.zeros((300, 400, 3), np.uint8)
    for x, y in landmarks:
        cv2.circle(photo, (round(x), round(y)), 3, (255, 255, 255), -1)
    return photo


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Preprocessing(128, 1.0, margin=0.1), canonical_landmarks(128, 0.1)),
        (Preprocessing(128, 0.5, margin=0.5), canonical_landmarks(128, 0.0)),  # the middle half of margin 0.5
        (Preprocessing(128, 1.0, dataset="utkface"), ALIGNED["utkface"] * 128 - 0.5),
        (Preprocessing(128, 0.85, dataset="morph"), canonical_landmarks(128, 0.25)),
    ],
)
def test_landmarks_come_to_the_position_that_training_knew(how, expected):
    """Of aligned releases to their own; of mug shots, which know none, to the canonical one."""
    turn = np.deg2rad(25)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = (canonical_landmarks(120, 0.25) - 60) @ rotation.T + [230, 140]
    photo = marked(landmarks)
    face = DetectedFace(np.array([170.0, 80, 290, 200]), landmarks, 0.99)
    (crop,) = Cropper(how).detected(photo, lambda _: [face])
    # five points of one shape fit the canonical target exactly, and a release's medians nearly
    tolerance = 5 if how.dataset == "utkface" else 0.5
    np.testing.assert_allclose(
        landmarks @ crop.transform[:, :2].T + crop.transform[:, 2], expected, atol=tolerance
    )
    for x, y in landmarks @ crop.transform[:, :2].T + crop.transform[:, 2]:
        assert crop.image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].max() > 180


def test_the_largest_face_comes_first(portrait):
    def face(left: float, side: float, score: float) -> DetectedFace:
        return DetectedFace(
            np.array([left, 0, left + side, side]), canonical_landmarks(64, 0.25) + left, score
        )

    faces = [face(0, 20, 0.99), face(90, 50, 0.91), face(30, 50, 0.95), face(10, 50, 0.91)]
    crops = Cropper(Preprocessing(64, margin=0.25)).detected(portrait, lambda _: faces)
    assert [crop.box[0] for crop in crops] == [30, 10, 90, 0]
