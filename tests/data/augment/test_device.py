"""The batched augmentation does to each face what the CPU path does to it."""

import cv2
import numpy as np
import pytest
import torch
from albumentations.augmentations.pixel import functional as albumentations_pixels
from scipy import stats
from torchvision.transforms.v2 import functional as torchvision_transforms

from mtmsa_lightning.data.augment import device as device_augmentation
from mtmsa_lightning.data.augment.cpu import FaceTransform, resize
from mtmsa_lightning.data.augment.device import augment
from mtmsa_lightning.data.augment.params import AugmentationParams, AugmentationParamSampler
from mtmsa_lightning.data.augment.presets import ERASED

PLAIN = AugmentationParams(
    left=0, top=0, width=96, height=96, mirrored=0, degrees=0,
    brightness=1, contrast=1, saturation=1, hue=0, first=-1, second=-1, third=-1, fourth=-1, grey=0,
)  # fmt: skip
"""Nothing is done to a picture of 96 pixels."""


def picture(seed: int, size: int = 96, cells: int = 12) -> np.ndarray:
    """A smooth colour picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def batch_of(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def on_device(pictures: list[np.ndarray], draws: list[AugmentationParams], size: int = 96) -> np.ndarray:
    """Augment and return levels from 0 to 255, shape (N, size, size, 3)."""
    faces = augment(batch_of(pictures), np.array(draws, np.float32), size)
    assert faces.dtype == torch.float32
    assert faces.min() >= 0
    assert faces.max() <= 1 + 1e-6
    return 255 * faces.permute(0, 2, 3, 1).double().numpy()


# ------------------------------------------------------------------ draws


@pytest.mark.parametrize("preset", ["light", "strong"])
@pytest.mark.parametrize(("source", "size"), [(96, 96), (96, 64), (72, 96)])
def test_the_sampler_draws_what_the_cpu_path_does(source, size, preset):
    transform = FaceTransform(size, augment=preset)
    sampler = AugmentationParamSampler(source, size, preset)
    image = picture(0, source)
    for seed in range(300):
        transform(image, seed)
        crop, flip, rotation, jitter, grey, *erasing = (
            step.get_applied_params() for step in transform.augmentation.transforms
        )
        draw = sampler(seed)
        left, top, right, bottom = crop["crop_coords"]
        assert draw[:4] == (left, top, right - left, bottom - top)
        assert (draw.mirrored, draw.grey) == (bool(flip), bool(grey))
        assert draw.degrees == rotation.get("rotate", 0)
        factors = (draw.brightness, draw.contrast, draw.saturation)
        assert factors == tuple(jitter.get(name, 1) for name in ("brightness", "contrast", "saturation"))
        assert draw.hue <= jitter.get("hue", 0) < draw.hue + 1 / 180
        assert [draw.first, draw.second, draw.third, draw.fourth] == jitter.get("order", [-1] * 4)
        holes = erasing[0].get("holes", []) if erasing else []
        (hole,) = holes if len(holes) else [(0, 0, 0, 0)]
        assert draw[-4:] == (*hole[:2], hole[2] - hole[0], hole[3] - hole[1])


def test_draws_are_distributed_as_the_settings_say():
    sampler = AugmentationParamSampler(1000, 64)
    draws = np.array([sampler(seed) for seed in range(4000)])
    drawn = dict(zip(AugmentationParams._fields, draws.T, strict=True))
    jittered, rotated = drawn["first"] >= 0, drawn["degrees"] != 0
    for rate, expected in (
        (drawn["mirrored"], 0.5), (rotated, 0.5), (jittered, 0.5), (drawn["grey"], 0.05),
    ):  # fmt: skip
        assert stats.binomtest(int(rate.sum()), len(rate), expected).pvalue > 1e-4
    for values, low, high in (
        (drawn["degrees"][rotated], -10, 10),
        *((drawn[name][jittered], 0.8, 1.2) for name in ("brightness", "contrast", "saturation")),
    ):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4
    orders = np.unique(draws[jittered, 10:14], axis=0, return_counts=True)[1]
    assert stats.chisquare(orders).pvalue > 1e-4
    assert len(orders) == 24
    area, ratio = drawn["width"] * drawn["height"] / 1e6, drawn["width"] / drawn["height"]
    assert 0.795 < area.min() < 0.81
    assert 0.99 < area.max() <= 1
    assert 0.895 < ratio.min() < 0.91
    assert 1.09 < ratio.max() < 1.105
    assert (drawn["left"] + drawn["width"]).max() <= 1000
    assert (drawn["top"] + drawn["height"]).max() <= 1000


# ------------------------------------------------------------------ whole augmentation


@pytest.mark.parametrize(("preset", "recoloured"), [("light", 0.5), ("strong", 0.8)])
@pytest.mark.parametrize(("source", "size", "tolerance"), [(96, 96, 1.5), (96, 80, 1.8), (160, 64, 2.5)])
def test_a_face_looks_as_on_the_cpu(source, size, tolerance, preset, recoloured):
    """Mean difference in levels of 256; the CPU rounds down after every step, hence its lower mean."""
    pictures = [picture(seed, source) for seed in range(60)]
    transform = FaceTransform(size, augment=preset)
    sampler = AugmentationParamSampler(source, size, preset)
    expected = np.stack([transform(image, seed) for seed, image in enumerate(pictures)]).astype(float)
    actual = on_device(pictures, [sampler(seed) for seed in range(60)], size)
    difference = actual - expected
    assert np.abs(difference).mean() < tolerance
    assert np.abs(difference).mean((1, 2, 3)).max() < 2.5 * tolerance
    assert 0 < difference.mean() < 2 * recoloured
    assert actual.std((1, 2)).mean() == pytest.approx(expected.std((1, 2)).mean(), rel=0.01)


@pytest.mark.parametrize("preset", ["light", "strong"])
def test_faces_do_not_depend_on_their_batch(preset):
    sampler = AugmentationParamSampler(72, 64, preset)
    images = batch_of([picture(seed, 72) for seed in range(13)])
    draws = np.array([sampler(seed) for seed in range(100, 113)], np.float32)
    together = augment(images, draws, 64)
    for rows in ([0], [12, 3], list(range(12, -1, -1)), list(range(5, 10))):
        assert torch.equal(augment(images[rows], draws[rows], 64), together[rows])


def test_memory_layout_makes_no_difference():
    images, draws = batch_of([picture(0)]), np.array([AugmentationParamSampler(96, 64)(3)], np.float32)
    assert not images.is_contiguous()
    assert torch.equal(augment(images.contiguous(), draws, 64), augment(images, draws, 64))


def test_the_batch_is_left_alone():
    images, draws = batch_of([picture(0)]), np.array([AugmentationParamSampler(96, 96)(1)], np.float32)
    before = images.clone(), draws.copy()
    augment(images, draws, 96)
    assert torch.equal(images, before[0])
    np.testing.assert_array_equal(draws, before[1])


# ------------------------------------------------------------------ geometry


def test_a_draw_of_nothing_changes_nothing():
    (face,) = on_device([picture(0)], [PLAIN])
    np.testing.assert_allclose(face, picture(0), atol=1e-3)


def test_mirroring_is_exact():
    (face,) = on_device([picture(0)], [PLAIN._replace(mirrored=1)])
    np.testing.assert_allclose(face, picture(0)[:, ::-1], atol=1e-3)


@pytest.mark.parametrize(
    "box", [(0, 0, 96, 96), (10, 4, 72, 80), (0, 20, 96, 76), (30, 30, 48, 48), (40, 0, 33, 31)]
)
@pytest.mark.parametrize("size", [24, 40, 64, 96, 120])
def test_cropping_and_resizing_follow_opencv(box, size):
    left, top, width, height = box
    (face,) = on_device([picture(0)], [PLAIN._replace(left=left, top=top, width=width, height=height)], size)
    crop = picture(0)[top : top + height, left : left + width]
    area = width >= size and height >= size
    expected = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    inside = slice(1, -1)  # at a crop's edge OpenCV repeats the last pixel, here its neighbour is seen
    assert np.abs(face - expected)[inside, inside].mean() < 1.5
    assert np.abs(face - expected)[inside, inside].max() < 12


@pytest.mark.parametrize("size", [24, 32, 48, 64, 90])
def test_shrinking_does_not_alias(size):
    """White noise keeps the deviation that area averaging leaves it."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    (face,) = on_device([noise], [PLAIN], size)
    assert face.std() == pytest.approx(resize(noise, size).std(), rel=0.12)


@pytest.mark.parametrize("degrees", [-10, -3.3, 0.5, 7, 10])
def test_rotation_follows_opencv_with_its_mirrored_borders(degrees):
    image = picture(0)
    (face,) = on_device([image], [PLAIN._replace(degrees=degrees)])
    matrix = cv2.getRotationMatrix2D((47.5, 47.5), degrees, 1)
    expected = cv2.warpAffine(image.astype(np.float32), matrix, (96, 96), borderMode=cv2.BORDER_REFLECT_101)
    assert np.abs(face - expected).max() < 2.5  # OpenCV places samples to 1/32 of a pixel


def test_mirroring_precedes_rotation():
    image = picture(0)
    (face,) = on_device([image], [PLAIN._replace(degrees=8, mirrored=1)])
    (expected,) = on_device([np.ascontiguousarray(image[:, ::-1])], [PLAIN._replace(degrees=8)])
    np.testing.assert_allclose(face, expected, atol=1e-2)


# ------------------------------------------------------------------ colours

AMOUNTS = {
    "brightness": (0.8, 0.93, 1.2),
    "contrast": (0.8, 1.07, 1.2),
    "saturation": (0.0, 0.8, 1.2),
    "hue": (-4 / 180, -1 / 180, 3 / 180, 0.3),
}


@pytest.mark.parametrize("name", AMOUNTS)
def test_colour_changes_are_torchvisions_with_an_amount_per_face(name):
    images = batch_of([picture(seed) for seed in range(len(AMOUNTS[name]))]).float() / 255
    amounts = torch.tensor(AMOUNTS[name]).view(-1, 1, 1, 1)
    actual = getattr(device_augmentation, f"adjust_{name}")(images, amounts)
    one_by_one = getattr(torchvision_transforms, f"adjust_{name}")
    expected = [one_by_one(face, amount) for face, amount in zip(images, AMOUNTS[name], strict=True)]
    # its weight of red is 0.2989 where OpenCV's is 0.299, and OpenCV rounds grey levels before the mean
    torch.testing.assert_close(actual, torch.stack(expected), atol=1.5e-3, rtol=0)


@pytest.mark.parametrize("name", AMOUNTS)
def test_colour_changes_are_those_of_albumentations(name):
    change = getattr(albumentations_pixels, f"adjust_{name}_torchvision")
    turn = ["brightness", "contrast", "saturation", "hue"].index(name)
    pictures = [picture(seed) for seed in range(len(AMOUNTS[name]))]
    draws = [PLAIN._replace(first=turn, **{name: amount}) for amount in AMOUNTS[name]]
    expected = [change(image, amount) for image, amount in zip(pictures, AMOUNTS[name], strict=True)]
    difference = np.abs(on_device(pictures, draws) - np.stack(expected))
    assert difference.mean() < (1.5 if name == "hue" else 1.01)
    assert difference.max() < (8 if name == "hue" else 2)  # 8-bit hue has steps of two degrees


def test_the_order_of_colour_changes_counts():
    image = picture(0)
    jitter = PLAIN._replace(brightness=1.2, contrast=0.8, saturation=1.2, hue=3 / 180)
    orders = [
        jitter._replace(first=a, second=b, third=c, fourth=d) for a, b, c, d in ((0, 1, 2, 3), (3, 2, 1, 0))
    ]
    forwards, backwards = on_device([image] * 2, orders)
    assert np.abs(forwards - backwards).max() > 5
    faces = batch_of([image]).float() / 255
    for name in ("hue", "saturation", "contrast", "brightness"):
        change = getattr(torchvision_transforms, f"adjust_{name}")
        faces = change(faces, getattr(jitter, name))
    np.testing.assert_allclose(backwards, 255 * faces[0].permute(1, 2, 0), atol=1)


def test_grey_comes_last_and_is_opencvs():
    (face,) = on_device([picture(0)], [PLAIN._replace(grey=1)])
    expected = cv2.cvtColor(picture(0), cv2.COLOR_RGB2GRAY)
    assert np.abs(face - expected[..., None]).max() <= 0.51


def test_a_rectangle_is_erased_last():
    erased = PLAIN._replace(grey=1, erased_left=10, erased_top=20, erased_width=30, erased_height=5)
    face, other = on_device([picture(0)] * 2, [erased, PLAIN])
    np.testing.assert_allclose(face[20:25, 10:40], np.broadcast_to(ERASED, (5, 30, 3)), atol=1e-3)
    outside = np.ones((96, 96), bool)
    outside[20:25, 10:40] = False
    assert np.ptp(face[outside], axis=1).max() < 1e-3
    assert not (other == ERASED).all(-1).any()
