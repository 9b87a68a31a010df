import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtmsa_lightning.data.audit.near_duplicates import NEAR, near_pairs, perceptual_hash


def distance(one, other):
    return int(np.bitwise_count(one ^ other).sum())


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0, 3, 31, 64]))
@settings(max_examples=40)
def test_all_pairs_are_found_as_by_brute_force(seed, rows, limit):
    """Hashes around a few centres, so that pairs on both sides of the limit occur."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (3, 256))
    flips = rng.random((rows, 256)) < rng.choice([0.0, 0.02, 0.1, 0.3], (rows, 1))
    bits = centres[rng.integers(0, 3, rows)] ^ flips
    hashes = np.packbits(bits.astype(np.uint8), axis=1).view(np.uint64)
    expected = [
        (i, j, int((bits[i] != bits[j]).sum()))
        for i in range(rows)
        for j in range(i + 1, rows)
        if (bits[i] != bits[j]).sum() <= limit
    ]
    found = near_pairs(hashes.reshape(-1, 4), limit).tolist()
    assert sorted(map(tuple, found)) == expected
    assert [pair[2] for pair in found] == sorted(pair[2] for pair in found)


def test_the_hash_is_the_librarys(draw):
    image = draw(1)
    bits = np.unpackbits(perceptual_hash(image).view(np.uint8)).reshape(16, 16)
    assert (imagehash.ImageHash(bits.astype(bool)) - imagehash.phash(Image.fromarray(image), 16)) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda image: np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8),
        lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    ],
    ids=["compressed", "smaller", "brighter", "grey"],
)
def test_changed_copies_are_near_and_strangers_are_not(draw, change):
    for seed in range(5):
        image = draw(seed)
        assert distance(perceptual_hash(image), perceptual_hash(change(image))) <= NEAR
        assert distance(perceptual_hash(image), perceptual_hash(draw(seed + 100))) > 2 * NEAR
