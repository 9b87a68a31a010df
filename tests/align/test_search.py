"""The search of photos against the plain detector and against faces pasted at known places."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from mtmsa_lightning.align.crop import FaceCropper
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.align.search import PhotoSearch, is_upright, tiles, turned, turned_back


@pytest.fixture(scope="module")
def search(detector):
    return PhotoSearch(detector)


def same(one, other):
    np.testing.assert_array_equal(one.box, other.box)
    np.testing.assert_array_equal(one.landmarks, other.landmarks)
    assert one.score == other.score


def pasted(portrait, side, places, size):
    """Return a photo with faces of ``side`` pixels, with their hair, at places."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(70, 180, (12, 12, 3), dtype=np.uint8)
    photo = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    margin = round(0.35 * side)  # the face is 65 pixels wide in a square of 112
    head = cv2.resize(portrait[52:164, 168:280], (side + 2 * margin,) * 2, interpolation=cv2.INTER_AREA)
    for left, top in places:
        photo[top : top + len(head), left : left + len(head)] = head
    return photo, np.array(places) + len(head) / 2


def assert_found(faces, centres, within):
    assert len(faces) == len(centres)
    for centre in centres:
        distances = [np.hypot(*((face.box[:2] + face.box[2:]) / 2 - centre)) for face in faces]
        assert min(distances) < within


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.0])
def test_what_the_detector_finds_stays_bit_for_bit(detector, search, portrait, factor):
    size = round(512 * factor)
    photo = cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA)
    (plain,) = detector(photo)
    (found,) = search(photo)
    same(plain, found)
    assert found.turned == 0
    crops = [FaceCropper(64, 0.25, each)(photo) for each in (detector, search)]
    np.testing.assert_array_equal(crops[0].image, crops[1].image)
    np.testing.assert_array_equal(crops[0].transform, crops[1].transform)


def test_a_low_threshold_changes_no_certain_face(detector, portrait):
    half = portrait[:400, 100:400]
    crowd = np.hstack([half, half[:, ::-1]])
    plain = detector(crowd)
    low = [face for face in detector(crowd, 0.05) if face.score > 0.9]
    for one, other in zip(plain, low, strict=True):
        same(one, other)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_on_its_side_is_turned(search, portrait, quarters):
    """Turned anticlockwise, its faces come out as in the upright photo; the order of landmarks is theirs."""
    photo = portrait[:300, 75:375]
    (upright,) = search(photo)
    (found,) = search(turned(photo, 4 - quarters))
    assert found.turned == (4 - quarters) * 90
    assert found.score == upright.score
    x, y = (upright.landmarks).T
    expected = {1: (299 - y, x), 2: (299 - x, 299 - y), 3: (y, 299 - x)}[quarters]
    np.testing.assert_allclose(found.landmarks, np.column_stack(expected), atol=1e-9)
    size, margin = 64, 0.25
    crops = [FaceCropper(size, margin, search)(turned(photo, turns)).image for turns in (0, 4 - quarters)]
    assert np.abs(crops[0].astype(int) - crops[1]).mean() < 2


def test_a_photo_that_is_taken_as_upright_is_not_turned(detector, portrait):
    photo = turned(portrait[:300, 75:375], 2)
    plain, found = detector(photo), PhotoSearch(detector, turn=False, crowds=False)(photo)
    assert len(plain) == len(found)
    for one, other in zip(plain, found, strict=True):
        same(one, other)
        assert other.turned == 0


@pytest.mark.parametrize("quarters", range(4))
def test_turning_back_is_the_inverse_of_turning(quarters):
    image = np.zeros((30, 50, 3), np.uint8)
    image[7, 11], image[20, 40] = 1, 2
    view = turned(image, quarters)
    points = np.array([np.argwhere(view[..., 0] == value)[0][::-1] for value in (1, 2)], np.float64)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    face = turned_back(DetectedFace(box, points, 0.99), quarters, image)
    np.testing.assert_array_equal(face.landmarks, [[11, 7], [40, 20]])
    np.testing.assert_array_equal(face.box, [11, 7, 40, 20])


def test_small_faces_of_a_large_photo_are_found(detector, search, portrait):
    places = [(40, 50), (700, 20), (905, 600), (330, 410), (1290, 380), (1330, 860)]
    photo, centres = pasted(portrait, 26, places, (1400, 930))
    assert len(detector(photo)) < len(centres)
    assert_found(search(photo), centres, 8)
    assert len(PhotoSearch(detector, crowds=False)(photo)) >= 1


def test_a_small_face_beside_a_large_one_comes_after_it(detector, search, portrait):
    photo, (centre,) = pasted(portrait, 25, [(900, 300)], (1000, 700))
    photo[100:612, 100:612] = portrait
    (plain,) = detector(photo)
    first, second = search(photo)
    same(first, plain)
    assert_found([second], [centre], 6)
    assert len(PhotoSearch(detector, crowds=False)(photo)) == 1
    assert len(PhotoSearch(detector, smallest_face=60)(photo)) == 1


@pytest.mark.parametrize("side", [20, 30])
def test_a_tiny_picture_of_a_face_is_enlarged(detector, search, portrait, side):
    face = cv2.resize(portrait[52:164, 168:280], (side, side), interpolation=cv2.INTER_AREA)
    assert not detector(face)
    (found,) = search(face)
    assert found.box.min() > -0.3 * side
    assert found.box.max() < 1.3 * side
    assert is_upright(found)


def test_nothing_is_found_where_nothing_is(search, portrait):
    assert search(np.full((120, 160, 3), 128, np.uint8)) == []
    assert search(portrait[300:]) == []
    assert search(np.zeros((1, 2000, 3), np.uint8)) == []


@pytest.mark.parametrize("size", [(100, 100), (640, 641), (2000, 700), (5, 1000)])
def test_tiles_cover_an_image_and_overlap(size):
    covered = np.zeros(size, int)
    places = tiles(np.zeros((*size, 3), np.uint8), 640, 128)
    for left, top, right, bottom in places:
        assert right - left <= 640
        covered[top:bottom, left:right] += 1
    assert covered.min() == 1
    lefts = sorted({place[0] for place in places})
    assert all(second - first <= 640 - 128 for first, second in pairwise(lefts))


def test_the_search_says_what_it_is(detector, search):
    assert search.identity.items() >= detector.identity.items()
    assert search.identity["orientation"] == "auto"
    assert search.identity["smallest_face"] == 24
