import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.align.canonical import (
    CENTRE,
    SIDE,
    TEMPLATE,
    canonical_fractions,
    canonical_landmarks,
    central_transform,
    similarity_transform,
    warp,
)

SHAPES = st.lists(
    st.tuples(*[st.integers(-200, 200)] * 2), min_size=2, max_size=7, unique=True
).map(lambda points: np.array(points, float))  # fmt: skip


def similarity(scale, degrees, x, y):
    turn = np.radians(degrees)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def moved(points, transform):
    return points @ transform[:, :2].T + transform[:, 2]


@given(SHAPES, st.floats(0.05, 20), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500))
def test_a_known_similarity_is_recovered(points, scale, degrees, x, y):
    known = similarity(scale, degrees, x, y)
    np.testing.assert_allclose(
        similarity_transform(points, moved(points, known)), known, atol=1e-8 * scale + 1e-7
    )


@given(st.integers(0, 10**6))
def test_it_is_the_least_squares_solution(seed):
    """A similarity without reflection is linear in (a, b, x, y), so that numpy can solve it directly."""
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 5, 2))
    design = np.zeros((10, 4))
    design[0::2] = np.column_stack([source[:, 0], -source[:, 1], np.ones(5), np.zeros(5)])
    design[1::2] = np.column_stack([source[:, 1], source[:, 0], np.zeros(5), np.ones(5)])
    a, b, x, y = np.linalg.lstsq(design, target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity_transform(source, target), [[a, -b, x], [b, a, y]], atol=1e-9)


def test_mirrored_points_are_not_reflected():
    transform = similarity_transform(TEMPLATE, TEMPLATE * [-1, 1])
    assert np.linalg.det(transform[:, :2]) > 0


def test_landmarks_on_one_point_are_refused():
    with pytest.raises(ValueError, match="one point"):
        similarity_transform(np.full((5, 2), 3.0), TEMPLATE)


@given(st.floats(-0.25, 2), st.integers(64, 1024))
def test_the_margin_widens_the_square_by_its_fraction_on_each_side(margin, size):
    """The square of margin 0, in pixels of the template, comes to fill the middle 1 / (1 + 2 margin)."""
    to_crop = similarity_transform(TEMPLATE, canonical_landmarks(size, margin))
    corners = np.array(CENTRE) + np.array([[-0.5, -0.5], [0.5, 0.5]]) * SIDE
    inner = size / (1 + 2 * margin)
    expected = size / 2 - 0.5 + np.array([[-inner, -inner], [inner, inner]]) / 2
    np.testing.assert_allclose(moved(corners, to_crop), expected, atol=1e-6)


def test_crops_of_two_sizes_show_the_same():
    small, large = canonical_landmarks(64, 0.25), canonical_landmarks(256, 0.25)
    np.testing.assert_allclose((small + 0.5) / 64, (large + 0.5) / 256)
    assert (canonical_fractions(0.0) > 0.2).all()
    assert (canonical_fractions(0.0) < 0.8).all()


@pytest.mark.parametrize(("height", "width"), [(100, 100), (100, 140), (141, 100)])
def test_the_central_square_fills_the_crop(height, width):
    side, transform = min(height, width), central_transform(height, width, 64)
    left, top = (width - side) / 2, (height - side) / 2
    edges = np.array([[left, top], [left + side, top + side]]) - 0.5  # pixel centres are whole numbers
    np.testing.assert_allclose(moved(edges, transform), [[-0.5, -0.5], [63.5, 63.5]], atol=1e-9)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_a_shrinking_warp_averages_what_a_pixel_covers(factor):
    """Under a scaling by a whole number a pixel of the crop is the mean of a square of source pixels."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64 * factor, 64 * factor, 3), dtype=np.uint8)
    crop = warp(image, central_transform(64 * factor, 64 * factor, 64), 64)
    means = image.reshape(64, factor, 64, factor, 3).mean(axis=(1, 3))
    assert np.abs(crop - means).max() <= 1.5


def test_outside_the_image_its_edge_repeats():
    image = np.full((10, 10, 3), 50, np.uint8)
    image[:, -1] = 200
    crop = warp(image, similarity(1, 0, 0, 0), 20)
    assert (crop[:, 9:] == 200).all()
