import cv2
import numpy as np
import pytest

from mtmsa_lightning.align.canonical import canonical_landmarks
from mtmsa_lightning.align.crop import ALIGNED, FaceCropper


def turned(image, degrees):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("degrees", [-30, 0, 30])
def test_a_turned_portrait_comes_out_upright_and_in_place(detector, portrait, degrees, margin):
    crop = FaceCropper(256, margin, detector)(turned(portrait, degrees))
    (found,) = detector(crop.image)
    off = found.landmarks - canonical_landmarks(256, margin)
    assert np.abs(off.mean(axis=0)).max() < 8, "the face as a whole"
    assert np.abs(off).max() < 26, "a landmark: no face has the template's proportions"
    eyes = found.landmarks[1] - found.landmarks[0]
    assert abs(np.degrees(np.arctan2(eyes[1], eyes[0]))) < 5


def test_crops_of_a_turned_portrait_look_alike(detector, portrait):
    cropper = FaceCropper(128, 0.0, detector)
    upright, other = (cropper(turned(portrait, degrees)).image.astype(float) for degrees in (0, 25))
    assert np.corrcoef(upright.ravel(), other.ravel())[0, 1] > 0.9


def test_the_transform_is_the_one_that_was_applied(detector, portrait):
    crop = FaceCropper(200, 0.25, detector)(portrait)
    scale = np.sqrt(np.linalg.det(crop.transform[:, :2]))
    assert 0.5 < scale < 2, "no shrinking before the warp"
    by_hand = cv2.warpAffine(portrait, crop.transform, (200, 200), borderMode=cv2.BORDER_REPLICATE)
    np.testing.assert_array_equal(crop.image, by_hand)
    assert crop.faces_found == 1


def test_without_a_face_the_central_square_is_taken(detector):
    image = np.zeros((80, 120, 3), np.uint8)
    image[:, 20:100] = 200
    crop = FaceCropper(80, 0.25, detector)(image)
    assert (crop.faces_found, crop.face) == (0, None)
    assert (crop.image == 200).all()


@pytest.mark.parametrize("release", list(ALIGNED))
def test_an_aligned_release_is_cropped_by_its_known_landmarks(release):
    """A picture with marks at the known landmarks: the marks land near the canonical position."""
    image = np.zeros((400, 400, 3), np.uint8)
    for x, y in ALIGNED[release] * 400 - 0.5:
        cv2.circle(image, (round(x), round(y)), 5, (255, 255, 255), -1)
    crop = FaceCropper(256, 0.25, None, release)(image)
    assert crop.faces_found == -1
    for x, y in canonical_landmarks(256, 0.25):
        window = crop.image[round(y) - 10 : round(y) + 11, round(x) - 10 : round(x) + 11]
        assert window.max() > 200


def test_utkface_at_margin_0_is_shown_whole():
    """The whole picture but for its outermost pixels, so that nothing is made up at the edges."""
    crop = FaceCropper(200, 0.0, None, "utkface")(np.zeros((200, 200, 3), np.uint8))
    np.testing.assert_allclose(crop.transform, [[1, 0, 0], [0, 1, 0]], atol=2.0)
    np.testing.assert_allclose(crop.transform[:, :2], np.eye(2), atol=0.01)
