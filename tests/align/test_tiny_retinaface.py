import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
import retinaface

from mtmsa_lightning.align.detected_face import largest
from mtmsa_lightning.align.detector import load_detector
from mtmsa_lightning.align.tiny_retinaface import LONGER_SIDE, MAX_OVERLAP, TinyRetinaFace, suppress_overlaps
from mtmsa_lightning.errors import ConfigError

SEEN = [[204, 101], [247, 103], [223, 129], [202, 138], [244, 140]]
"""Eyes, nose and corners of the mouth in the portrait, read off by eye."""


def test_the_portraits_landmarks_are_where_they_are_seen(detector, portrait):
    (face,) = detector(portrait)
    assert np.abs(face.landmarks - SEEN).max() < 6
    left, top, right, bottom = face.box
    assert (face.landmarks > [left, top]).all()
    assert (face.landmarks < [right, bottom]).all()
    assert 0.9 < face.score <= 1


def test_it_finds_what_the_library_finds(detector, portrait, monkeypatch):
    """The library's own decoding, which cuts to whole pixels; its mean colour differs in one channel."""
    module = sys.modules["retinaface.preprocess"]  # the package's attribute is the function of that name
    monkeypatch.setattr(module, "MEAN", np.array([104, 117, 123], np.int16))
    monkeypatch.setattr(retinaface, "ONNX_SESSION", detector._session)
    half = portrait[:400, 100:400]
    crowd = np.hstack([half, half[:, ::-1]])
    theirs = retinaface.detect_faces(crowd)
    ours = detector(crowd)
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        points = np.array([[point.x, point.y] for point in other.landmarks])
        assert np.abs(mine.landmarks + 0.5 - points - 0.5).max() <= 0.5 + 1e-3
        corner = np.array([other.x, other.y])
        assert np.abs(mine.box[:2] + 0.5 - corner - 0.5).max() <= 0.5 + 1e-3
        assert mine.score == pytest.approx(other.score, abs=1e-5)


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_landmarks_follow_the_size_of_the_photo(detector, portrait, factor):
    """At 3 the photo is larger than what the network gets: it is shrunk, and points are brought back."""
    size = round(512 * factor)
    assert (size > LONGER_SIDE) == (factor > 1)
    (face,) = detector(portrait)
    (scaled,) = detector(cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA))
    assert np.abs((scaled.landmarks + 0.5) / factor - face.landmarks - 0.5).max() < 6


def test_nothing_is_found_where_nothing_is(detector, portrait):
    assert detector(np.full((120, 160, 3), 128, np.uint8)) == []
    assert detector(portrait[300:]) == []


def test_of_several_the_largest_is_taken(detector, portrait):
    face = portrait[20:220, 120:320]
    canvas = np.full((300, 500, 3), 90, np.uint8)
    canvas[50:150, 20:120] = cv2.resize(face, (100, 100), interpolation=cv2.INTER_AREA)
    canvas[50:250, 250:450] = face
    found = detector(canvas)
    assert len(found) == 2
    assert largest(found).landmarks[:, 0].min() > 250
    assert largest(found[::-1]) is largest(found)


def test_the_detector_says_what_it_is(detector):
    assert "tiny-retinaface 0.1.0" in detector.identity["name"]
    assert len(detector.identity["weights_sha256"]) == 64
    assert isinstance(load_detector().detector, TinyRetinaFace)


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "retinaface", None)
    monkeypatch.delitem(sys.modules, "retinaface.weights")
    with pytest.raises(ConfigError, match=r"pip install 'mtmsa-lightning\[align\]'"):
        TinyRetinaFace()


def test_another_package_of_that_name_is_told_apart(monkeypatch):
    monkeypatch.delitem(sys.modules, "retinaface.weights")
    other = ModuleType("retinaface")
    other.__path__ = []  # as of retina-face: a package without those weights
    monkeypatch.setitem(sys.modules, "retinaface", other)
    with pytest.raises(ConfigError, match=r"not tiny-retinaface's.*retina-face"):
        TinyRetinaFace()


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(retinaface.weights, "WEIGHTS", b"others")
    with pytest.raises(ConfigError, match="other weights"):
        TinyRetinaFace()


def by_brute_force(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Greedy non-maximum suppression by its definition: the best box removes all that overlap it."""
    waiting = sorted(range(len(boxes)), key=lambda row: -scores[row])
    kept = []
    while waiting:
        first = waiting.pop(0)
        kept.append(first)
        waiting = [row for row in waiting if intersection_over_union(boxes[first], boxes[row]) <= MAX_OVERLAP]
    return kept


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    shared = np.prod(np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared))


@pytest.mark.parametrize("ties", [False, True])
def test_overlapping_boxes_are_suppressed_by_the_definition(ties):
    rng = np.random.default_rng(0)
    for number in range(300):
        n = number % 40
        centres = rng.uniform(0, 640, (5, 2))[rng.integers(0, 5, n)] + rng.normal(0, 8, (n, 2))
        sizes = rng.uniform(10, 120, (n, 2))
        boxes = np.hstack([centres - sizes / 2, centres + sizes / 2])
        scores = rng.uniform(0.91, 1, n).round(2 if ties else 8).astype(np.float32).astype(np.float64)
        assert suppress_overlaps(boxes, scores) == by_brute_force(boxes, scores)
