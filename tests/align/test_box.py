import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.align.box import BOX, box_rows, crop_box, turned_boxes

RNG = np.random.default_rng(0)


@pytest.fixture
def image():
    return RNG.integers(0, 256, (60, 80, 3)).astype(np.uint8)


def test_an_upright_box_is_cut_out(image):
    assert (crop_box(image, (10, 20, 40, 50, 0), 0) == image[20:50, 10:40]).all()


def test_the_shorter_side_and_the_margin_are_added_around_the_centre(image):
    assert (crop_box(image, (30, 20, 40, 40, 0), 0) == image[20:40, 25:45]).all()
    assert (crop_box(image, (30, 20, 50, 40, 0), 0.25) == image[15:45, 25:55]).all()


def test_edge_pixels_are_repeated_outside_the_image(image):
    crop = crop_box(image, (-10, 0, 20, 30, 0), 0)
    assert (crop[:, 10:] == image[:30, :20]).all()
    assert (crop[:, :10] == image[:30, :1]).all()


@pytest.mark.parametrize(("angle", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_turned_box_is_turned_back(image, angle, turns):
    # clockwise by 90 degrees: the top edge of the box lies on the right, which is undone counter-clockwise
    crop = crop_box(image, (10, 20, 40, 50, angle), 0)
    assert (crop == np.rot90(image[20:50, 10:40], turns)).all()


def test_a_huge_box_is_scaled(image):
    assert crop_box(image, (0, 0, 1e6, 1e6, 0), 0).shape == (160, 160, 3)


def test_boxes_of_a_table():
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg"]})
    assert box_rows(frame) == [None, None]
    frame = frame.assign(**{name: [1.0, np.nan] for name in BOX})
    assert box_rows(frame) == [(1, 1, 1, 1, 1), None]


def test_corners_of_turned_boxes():
    upright = [10, 20, 40, 20, 40, 60, 10, 60]
    clockwise = [40, 0, 40, 20, 10, 20, 10, 0]  # the top edge lies on the right
    published = [-57, -95, 372, -83, 360, 346, -69, 334]  # a face of the CVPR 2024 benchmark
    boxes = turned_boxes(np.array([upright, clockwise, published], float))
    assert boxes[:2] == pytest.approx(np.array([[10, 20, 40, 60, 0], [15, -5, 35, 25, 90]]))
    left, top, right, bottom, angle = boxes[2]
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((151.5, 125.5))
    assert right - left == bottom - top == pytest.approx((429**2 + 12**2) ** 0.5)
    assert np.tan(np.radians(angle)) == pytest.approx(12 / 429)
