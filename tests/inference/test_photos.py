"""Every form of photo gives the same RGB array as its file; what is none is refused by name."""

import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmsa_lightning._utils.images import UnreadableImageError
from mtmsa_lightning.inference.photos import read_photo

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 2**16, (20, 30), np.uint16)


def tripled(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        (RGB, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
        (RGB / np.float32(255), RGB),
        (np.dstack([RGB, GREY]), RGB),
        (GREY, tripled(GREY)),
        (GREY[..., None], tripled(GREY)),
        (np.dstack([GREY, RGB[..., 1]]), tripled(GREY)),
        (DEEP, tripled((DEEP >> 8).astype(np.uint8))),
        (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255, RGB),
        (torch.from_numpy(GREY), tripled(GREY)),
        (torch.from_numpy(GREY)[None], tripled(GREY)),
        (torch.tensor(1.0, requires_grad=True) * torch.ones(3, 4, 5), np.full((4, 5, 3), 255)),
        (PIL.Image.fromarray(RGB), RGB),
        (PIL.Image.fromarray(GREY), tripled(GREY)),
        (PIL.Image.fromarray(np.dstack([RGB, GREY])), RGB),
        (PIL.Image.fromarray(DEEP), tripled((DEEP >> 8).astype(np.uint8))),
        (PIL.Image.fromarray(DEEP.astype(np.int32)), tripled((DEEP >> 8).astype(np.uint8))),
        (PIL.Image.fromarray(GREY > 99), tripled(np.where(GREY > 99, 255, 0))),
    ],
)
def test_every_form_of_photo_becomes_rgb(photo, expected):
    image = read_photo(photo)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    "stored", [RGB, GREY, DEEP, np.dstack([RGB, GREY]), np.dstack([DEEP, DEEP.T.reshape(20, 30), DEEP])]
)
def test_a_file_and_its_pixels_are_the_same_photo(stored, tmp_path):
    """Pillow and OpenCV agree with what is done to arrays; OpenCV writes BGR."""
    swapped = stored if stored.ndim == 2 else stored[..., [2, 1, 0, 3][: stored.shape[-1]]]
    cv2.imwrite(str(tmp_path / "photo.png"), swapped)
    expected = read_photo(stored)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), expected)
    np.testing.assert_array_equal(read_photo(str(tmp_path / "photo.png")), expected)
    np.testing.assert_array_equal(read_photo((tmp_path / "photo.png").read_bytes()), expected)
    if stored.dtype == np.uint8 or stored.ndim == 2:  # Pillow has no mode for three times 16 bits
        with PIL.Image.open(tmp_path / "photo.png") as image:
            np.testing.assert_array_equal(read_photo(image), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(orientation, tmp_path):
    """By the EXIF orientation, which a file and Pillow's image of it both carry."""
    turned = PIL.Image.fromarray(cv2.resize(RGB, (96, 64), interpolation=cv2.INTER_CUBIC))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "photo.jpg", exif=exif, quality=100, subsampling=0)
    expected = [
        lambda x: x, lambda x: x[:, ::-1], lambda x: x[::-1, ::-1], lambda x: x[::-1],
        lambda x: x.transpose(1, 0, 2), lambda x: np.rot90(x, -1),
        lambda x: np.rot90(x, 2).transpose(1, 0, 2), lambda x: np.rot90(x),
    ][orientation - 1](np.asarray(turned).astype(int))  # fmt: skip
    with PIL.Image.open(tmp_path / "photo.jpg") as opened:
        for photo in (tmp_path / "photo.jpg", opened):
            image = read_photo(photo).astype(int)
            assert image.shape == expected.shape
            assert np.abs(image - expected).mean() < 4


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4]), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_arrays_of_any_size_keep_their_pixels(height, width, channels, seed):
    array = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    image = read_photo(array)
    np.testing.assert_array_equal(image, np.broadcast_to(array[..., :3], (height, width, 3)))


@pytest.mark.parametrize(
    ("photo", "said"),
    [
        (np.zeros((3, 20, 20), np.uint8), r"shape \(3, 20, 20\) is not a photo"),
        (np.zeros((2, 20, 20, 3), np.uint8), "is not a photo"),
        (np.zeros((0, 20, 3), np.uint8), "is not a photo"),
        (torch.zeros(20, 20, 3), "is not a photo"),
        (np.zeros((20, 20, 3), np.int64), "type int64 is not a photo"),
        (np.full((20, 20), 200.0), "floats from 200 to 200"),
        (np.full((20, 20), -0.1), "floats from -0.1"),
        (np.full((20, 20), np.nan), "floats from nan"),
    ],
)
def test_arrays_that_are_no_photo_are_refused_with_the_reason(photo, said):
    with pytest.raises(UnreadableImageError, match=said):
        read_photo(photo)


def test_what_is_no_photo_at_all_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="not int"):
        read_photo(7)


def test_files_that_are_no_photo_are_refused_by_name(tmp_path):
    whole = cv2.imencode(".jpg", cv2.resize(RGB, (300, 200)))[1].tobytes()
    contents = {
        "text.jpg": b"not an image",
        "empty.png": b"",
        "cut.jpg": whole[:40],
        "header.png": b"\x89PNG\r\n\x1a\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match=name):
            read_photo(tmp_path / name)
        with pytest.raises(UnreadableImageError, match="sent by you: "):
            read_photo(content, name="sent by you")
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(UnreadableImageError, match=f"{path.name}: cannot be read"):
            read_photo(path)


def test_pillow_images_that_turn_out_damaged_are_refused(tmp_path):
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)).save(
        tmp_path / "whole.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with (
        PIL.Image.open(tmp_path / "cut.png") as image,
        pytest.raises(UnreadableImageError, match=r"cut\.png"),
    ):
        read_photo(image)


def bomb(side: int) -> bytes:
    """A PNG whose header says that it has side x side pixels; what follows is never looked at."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (8100, "8100 x 8100 are 66 million pixels, the limit is 64"),
        (10_000, "100 million pixels, the limit is 64 million"),
        (14_000, "196 million pixels"),
        (2**31 - 1, "4611686014132 million pixels"),
    ],
)
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side, said, tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(bomb(side))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImageError, match=f"bomb.png: too large: .*{said}"):
        read_photo(tmp_path / "bomb.png")


def test_pillows_own_limit_neither_warns_nor_decides(tmp_path, monkeypatch):
    """It is 89 million pixels by itself: here fewer than one photo has."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 400)
    for name in ("photo.png", "photo.jpg", "photo.tif", "photo.webp", "photo.bmp"):
        cv2.imwrite(str(tmp_path / name), RGB)
        assert read_photo(tmp_path / name).shape == (20, 30, 3)
        most = 149 if name.endswith("jpg") else 599  # four times as many are read at half size
        with pytest.raises(UnreadableImageError, match="too large: 30 x 20 are 0 million pixels"):
            read_photo(tmp_path / name, max_pixels=most)


def test_the_limit_counts_pixels_and_is_the_callers(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), RGB)
    assert read_photo(tmp_path / "photo.png", max_pixels=600).shape == (20, 30, 3)
    for photo in (tmp_path / "photo.png", PIL.Image.fromarray(RGB)):
        with pytest.raises(UnreadableImageError, match="30 x 20"):
            read_photo(photo, max_pixels=599)
