import os
import random
import subprocess
import sys
from collections import Counter

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.augment.cpu import FaceTransform, resize
from mtmsa_lightning.data.augment.random_state import sample_seed


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
    [
        ((0, 0, 0), 0x37213BE4),
        ((0, 0, 1), 0x1DDE5940),
        ((0, 1, 0), 0x970FA8A4),
        ((1, 0, 0), 0x3CEA1494),
        ((42, 7, -1), 0xA069840E),  # `printf '42|7|-1' | b2sum -l 32`, read from its last byte to its first
        ((2**40, 10**6, 10**9), 0x9D1D4A58),
    ],
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
def test_output_is_a_square_of_its_own_memory(photo, height, augmented):
    photo = photo[:height].copy()
    photo.flags.writeable = False  # as rows of a memory-mapped array are
    image = FaceTransform(64, 0.85, augmented)(photo, seed=1)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert not np.shares_memory(image, photo)


def test_evaluation_is_crop_and_mean_of_blocks(photo):
    """120 * 0.8 = 96 pixels to 32: area resizing is then the plain mean of blocks of 3 x 3."""
    square = photo[27:123, 12:108].astype(float)
    blocks = square.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3))
    image = FaceTransform(32, 0.8)(photo)
    assert np.abs(image - blocks).max() <= 0.5 + 1e-9


def test_evaluation_ignores_the_seed_and_leaves_the_photo_alone(photo):
    before = photo.copy()
    transform = FaceTransform(64, 0.85)
    np.testing.assert_array_equal(transform(photo, seed=1), transform(photo, seed=2))
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
    for seed in np.random.default_rng(0).permutation(30).tolist():
        np.testing.assert_array_equal(other(photo, seed), expected[seed])


def test_the_light_augmentation_never_changes(photo, augment):
    """Pixel by pixel that of runs before there were presets."""
    written = A.Compose(
        [
            A.RandomResizedCrop(
                (64, 64), scale=(0.8, 1.0), ratio=(0.9, 1.1), interpolation=1, area_for_downscale="image"
            ),
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-10, 10), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=0.5),
            A.ToGray(p=0.05),
        ]
    )
    for seed in range(60):
        written.set_random_state(np.random.default_rng(seed), random.Random(seed))
        np.testing.assert_array_equal(augment(photo[:120], seed), written(image=photo[:120])["image"])


def test_augmentation_differs_by_seed_epoch_and_index(photo, augment):
    keys = [(seed, epoch, index) for seed in range(3) for epoch in range(4) for index in range(10)]
    images = {augment(photo[:120], sample_seed(*key)).tobytes() for key in keys}
    assert len(images) >= len(keys) - 3  # a plain crop may come twice


def test_augmentation_neither_uses_nor_moves_global_random_states(photo, augment):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the state that a library might use behind our back
    expected = augment(photo, 7)
    draws = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    assert (torch.rand(1), np.random.rand()) == draws  # noqa: NPY002
    np.testing.assert_array_equal(augment(photo, 7), expected)


@pytest.mark.parametrize("grey", [60, 128, 190])
def test_brightness_stays_within_its_bounds(augment, grey):
    """A grey card: brightness times 0.8 to 1.2 is all that may happen to it, on every pixel alike."""
    card = np.full((80, 80, 3), grey, np.uint8)
    images = np.stack([augment(card, seed) for seed in range(60)]).astype(float)
    assert np.ptp(images, axis=(1, 2, 3)).max() <= 2
    assert images.min() >= 0.8 * grey - 2
    assert images.max() <= 1.2 * grey + 2
    assert images.std(0).min() > 0.03 * grey


def test_augmentation_leaves_the_face_recognisable():
    """A bright face on a dark ground: every draw still resembles it, and no corner is cut out or filled."""
    face = np.full((100, 100, 3), 60, np.uint8)
    cv2.circle(face, (50, 50), 32, (220, 180, 160), -1)
    images = np.stack([FaceTransform(64, augment=True)(face, seed) for seed in range(200)]).astype(float)
    plain = FaceTransform(64)(face).astype(float)
    greys = [plain.mean(2), *images.mean(3), images.mean((0, 3))]
    *each, of_the_mean = np.corrcoef([grey.ravel() for grey in greys])[0, 1:]
    assert min(each) > 0.6
    assert of_the_mean > 0.95
    assert images[:, :2, :2].min() > 60 * 0.8**2 - 2  # brightness and contrast together
    assert images[:, :2, :2].max() < 100


def test_steps_of_the_augmentation_are_drawn_independently():
    """Mirrored, rotated, recoloured: each by half, and each of the eight combinations by an eighth."""
    halves = np.full((80, 80, 3), 60, np.uint8)
    halves[:, 40:] = 180
    augment = FaceTransform(64, augment=True)
    seen = Counter()
    for seed in range(400):
        image = augment(halves, seed)[..., 0].astype(float)
        bright = (image > (image.min() + image.max()) / 2).sum(1)
        mirrored = image[:, 0].mean() > image[:, -1].mean()
        rotated = abs(bright[0] - bright[-1]) > 1
        recoloured = (image.min(), image.max()) != (60, 180)
        seen[mirrored, rotated, recoloured] += 1
    assert len(seen) == 8
    assert min(seen.values()) > 25
    assert max(seen.values()) < 100


def test_augmentation_enlarges_smoothly_and_shrinks_by_area():
    """Nearest-neighbour blocks (which area resizing makes of an enlargement) have few different columns."""
    ramp = np.repeat(np.linspace(40, 200, 16).astype(np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)
    crop, *_ = FaceTransform(64, augment=True).augmentation
    enlarged = crop(image=ramp)["image"][32, :, 0]
    assert len(np.unique(enlarged)) > 40
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    assert crop(image=noise)["image"].std() < 20  # means of about 80 pixels each


@pytest.mark.slow
def test_importing_the_augmentation_asks_nothing_of_the_internet():
    """albumentations looks for updates when it is imported, and warns after two seconds without a network."""
    code = """
import urllib.request
def refuse(*_, **__): raise AssertionError("network")
urllib.request.OpenerDirector.open = refuse
from mtmsa_lightning.data.augment.cpu import FaceTransform
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
