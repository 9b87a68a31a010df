import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.transforms import FaceTransform, resize, sample_seed


@pytest.fixture(scope="module")
def photo():
    """A smooth colour photo, 120 wide and 150 high."""
    coarse = np.random.default_rng(0).integers(30, 226, (10, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (120, 150), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="module")
def augment():
    return FaceTransform(64, augment=True)


# ------------------------------------------------------------------ seeds


@pytest.mark.parametrize(
    ("key", "seed"),
    [((0, 0, 0), 0x00000000)],
)
def test_sample_seed_never_changes(key, seed):
    assert sample_seed(*key) == seed


@given(st.integers(), st.integers(), st.integers())
def test_sample_seed_fits_32_bits(seed, epoch, index):
    assert 0 <= sample_seed(seed, epoch, index) < 2**32


def test_sample_seeds_differ_by_seed_epoch_and_index():
    keys = [(seed, epoch, index) for seed in (0, 1, 11) for epoch in range(12) for index in range(-1, 120)]
    assert len({sample_seed(*key) for key in keys}) == len(keys)


# ------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("height", [30, 64, 90, 150])
@pytest.mark.parametrize("augmented", [False, True])
def test_output_is_a_square_uint8_tensor(photo, height, augmented):
    image = FaceTransform(64, 0.85, augmented)(photo[:height], seed=1)
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()


def test_evaluation_is_crop_and_mean_of_blocks(photo):
    """120 * 0.8 = 96 pixels to 32: area resizing is then the plain mean of blocks of 3 x 3."""
    square = photo[27:123, 12:108].astype(float)
    blocks = square.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    image = FaceTransform(32, 0.8)(photo).numpy()
    assert np.abs(image - blocks).max() <= 0.5 + 1e-9


def test_evaluation_ignores_the_seed_and_leaves_the_photo_alone(photo):
    before = photo.copy()
    transform = FaceTransform(64, 0.85)
    assert torch.equal(transform(photo, seed=1), transform(photo, seed=2))
    np.testing.assert_array_equal(photo, before)


def test_small_images_are_enlarged_bilinearly():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    column = resize(image, 8)[0, :, 0].astype(int)
    np.testing.assert_array_equal(column, [0, 0, 25, 75, 125, 175, 200, 200])


def test_an_image_of_the_right_size_stays_as_it_is(photo):
    np.testing.assert_array_equal(resize(photo[:120], 120), photo[:120])


# ------------------------------------------------------------------ augmentation


def test_augmentation_is_a_function_of_the_seed_alone(photo, augment):
    expected = [augment(photo, seed) for seed in range(30)]
    other = FaceTransform(64, augment=True)
    np.random.default_rng(5)
    for seed in np.random.default_rng(0).permutation(30).tolist():
        assert torch.equal(other(photo, seed), expected[seed])
    assert all(not torch.equal(expected[0], image) for image in expected[1:])


def test_augmentation_neither_uses_nor_moves_global_random_states(photo, augment):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the state that a library might use behind our back
    expected = augment(photo, 7)
    draws = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    assert (torch.rand(1), np.random.rand()) == draws  # noqa: NPY002
    assert torch.equal(augment(photo, 7), expected)


@pytest.mark.parametrize("grey", [60, 128, 190])
def test_brightness_stays_within_its_bounds(augment, grey):
    """A grey card: brightness times 0.8 to 1.2 is all that may happen to it, on every pixel alike."""
    card = np.full((80, 80, 3), grey, np.uint8)
    images = torch.stack([augment(card, seed) for seed in range(60)]).double()
    assert (images.amax((1, 2, 3)) - images.amin((1, 2, 3))).max() <= 2
    assert images.min() >= 0.8 * grey - 2
    assert images.max() <= 1.2 * grey + 2
    assert images.std(0).min() > 0.03 * grey


def test_augmentation_leaves_the_face_recognisable():
    """The mean over many draws still shows the original, mirrored onto itself, without empty corners."""
    face = np.full((100, 100, 3), 150, np.uint8)
    cv2.circle(face, (50, 50), 30, (220, 180, 160), -1)
    cv2.circle(face, (38, 42), 5, (20, 20, 20), -1)
    cv2.circle(face, (62, 42), 5, (20, 20, 20), -1)
    augment = FaceTransform(64, augment=True)
    images = torch.stack([augment(face, seed) for seed in range(200)]).double()
    plain = FaceTransform(64)(face).double()
    correlation = torch.corrcoef(torch.stack([images.mean(0).flatten(), plain.flatten()]))[0, 1]
    assert correlation > 0.9
    each = torch.corrcoef(torch.cat([plain.mean(0).view(1, -1), images.mean(1).view(200, -1)]))[0, 1:]
    assert each.min() > 0.5
    assert images.amin((1, 2, 3)).min() < 40
    assert images[:, :, :3, :3].min() > 100


def test_half_of_the_images_are_mirrored():
    half = np.zeros((80, 80, 3), np.uint8)
    half[:, 40:] = 255
    augment = FaceTransform(64, augment=True)
    mirrored = [
        bool(image[:, :, :8].double().mean() > 128) for image in (augment(half, n) for n in range(200))
    ]
    assert 70 < sum(mirrored) < 130


def test_importing_the_augmentation_asks_nothing_of_the_internet():
    """albumentations looks for updates when it is imported, and warns after two seconds without a network."""
    code = """
import urllib.request
def refuse(*_, **__): raise AssertionError("network")
urllib.request.OpenerDirector.open = refuse
from mtmsa_lightning.data.transforms import FaceTransform
FaceTransform(64, augment=True)
"""
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
