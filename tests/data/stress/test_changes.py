"""Changed photos: severities, random choices, and what is drawn where."""

import random

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.align.canonical import canonical_landmarks
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.stress.changes import STRESSES, AppliedStress
from mtmsa_lightning.data.stress.dataset import stressed
from mtmsa_lightning.data.stress.names import NAMES

FACE = cv2.resize(np.random.default_rng(0).integers(60, 220, (12, 12, 3), np.uint8), (96, 96))
BY_NAME = {stress.name: stress for stress in STRESSES}
MARGIN = 0.1


def changed(name: str, severity: int, seed: int = 0, image=FACE, margin: float = MARGIN):
    applied = AppliedStress(BY_NAME[name], severity, margin)
    applied.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return applied(image.copy())["image"]


def distance(name: str, severity: int, seed: int = 0) -> float:
    return float(np.abs(changed(name, severity, seed).astype(float) - FACE).mean())


def test_names_are_those_of_the_changes():
    assert tuple(BY_NAME) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_change_is_seeded_and_grows_with_its_severity(name):
    severities = range(1, len(BY_NAME[name].amounts) + 1)
    images = [changed(name, severity) for severity in severities]
    assert all(image.shape == FACE.shape and image.dtype == np.uint8 for image in images)
    np.testing.assert_array_equal(images[-1], changed(name, len(images)))
    distances = [np.mean([distance(name, severity, seed) for seed in range(3)]) for severity in severities]
    assert distances[0] > 0
    assert distances == sorted(distances) or name == "rotation"


def test_amounts_are_those_of_the_table():
    np.testing.assert_allclose(changed("low_light", 2), FACE * 0.25, atol=1)
    assert (np.ptp(changed("grey", 1), axis=2) == 0).all()
    noise = changed("noise", 1).astype(float) - FACE
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.1)
    for severity, fraction in enumerate(BY_NAME["cover"].amounts, 1):
        covered = (changed("cover", severity) == 127).all(2)
        assert covered.sum() == pytest.approx((fraction * 96) ** 2, rel=0.1)
    small = cv2.resize(FACE, (16, 16), interpolation=cv2.INTER_AREA)
    again = cv2.resize(changed("low_resolution", 3), (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(again.astype(float) - small).mean() < 8
    np.testing.assert_array_equal(changed("low_resolution", 1, image=FACE[:40, :40]), FACE[:40, :40])
    turned = cv2.getRotationMatrix2D((47.5, 47.5), 20, 1), cv2.getRotationMatrix2D((47.5, 47.5), -20, 1)
    either = [cv2.warpAffine(FACE, turn, (96, 96), borderMode=cv2.BORDER_REPLICATE) for turn in turned]
    assert min(np.abs(changed("rotation", 2).astype(int) - each).max() for each in either) <= 1


def centre(name: str, severity: int, side: int) -> np.ndarray:
    """Return the mean position of what is drawn on a white face, as (x, y) in pixels."""
    white = np.full((side, side, 3), 255, np.uint8)
    rows, columns = np.nonzero(changed(name, severity, image=white).min(axis=2) < 200)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("side", [64, 150])
def test_glasses_are_at_the_eyes_and_a_beard_around_the_mouth(side):
    left, right, nose, *mouth = canonical_landmarks(side, MARGIN)
    eyes, unit = (left + right) / 2, right[0] - left[0]
    assert np.abs(centre("glasses", 3, side) - eyes).max() < 0.12 * unit
    x, y = centre("beard", 3, side)
    assert abs(x - nose[0]) < 0.12 * unit
    assert mouth[0][1] - 0.1 * unit < y < mouth[0][1] + 0.6 * unit


def test_a_stressed_dataset_keeps_the_faces_and_depends_on_seed_change_and_row_only(tmp_path):
    names = []
    for number in range(2):
        names.append(f"{number}.png")
        cv2.imwrite(str(tmp_path / names[-1]), FACE)
    table = pd.DataFrame(
        {"path": names, "id": names, "age_low": 20.0, "age_high": 20.0, "gender": 0, "race": 0}
    )
    dataset = FaceDataset(table, tmp_path, FaceTransform(48))
    noise, cover = BY_NAME["noise"], BY_NAME["cover"]
    first = stressed(dataset, noise, 2, 0.0, seed=0)
    assert first[0]["id"] == "0.png"
    assert first[0]["image"].shape == (48, 48, 3)
    np.testing.assert_array_equal(first[0]["image"], stressed(dataset, noise, 2, 0.0, seed=0)[0]["image"])
    assert (first[0]["image"] != first[1]["image"]).any(), "another row"
    assert (first[0]["image"] != stressed(dataset, noise, 2, 0.0, seed=1)[0]["image"]).any(), "another seed"
    mild, strong = (stressed(dataset, cover, severity, 0.0, seed=0)[0]["image"] for severity in (2, 3))
    hidden = (mild == 127).all(2) & ~(strong == 127).all(2)
    assert hidden.mean() < 0.05, "a stronger cover is at the same place"
