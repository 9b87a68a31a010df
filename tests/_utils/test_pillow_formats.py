"""GIF, AVIF and HEIC against the pictures that were saved."""

import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from mtmsa_lightning._utils import pillow_formats
from mtmsa_lightning._utils.images import UnreadableImageError, decode_image, read_image

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def face(portrait):
    return Image.fromarray(portrait[:200, 140:290])  # higher than wide


def saved(image, kind, **options):
    file = io.BytesIO()
    if kind == "HEIC":
        pillow_heif.from_pillow(image).save(file, quality=90, **options)
    else:
        image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "HEIC", "JPEG2000"])
def test_the_saved_picture_is_read_whatever_the_name(face, kind, tmp_path):
    for name in ("IMG_0001", "photo.jpg"):
        (tmp_path / name).write_bytes(saved(face, kind))
        image = read_image(tmp_path / name)
        assert image.shape == (200, 150, 3)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - np.asarray(face)).mean() < 5


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_the_orientation_is_applied_once(face, kind):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = face.rotate(90, expand=True)
    image = decode_image(saved(turned, kind, exif=exif.tobytes()), "photo")
    assert image.shape == (200, 150, 3)
    assert np.abs(image.astype(int) - np.asarray(face)).mean() < 5


def test_of_an_animation_the_first_picture_is_used_and_this_is_said_once(face, caplog):
    caplog.set_level("INFO")
    data = saved(face, "GIF", save_all=True, append_images=[face.rotate(180)] * 2)
    for _ in range(2):
        image = decode_image(data, "three.gif")
    assert np.abs(image.astype(int) - np.asarray(face)).mean() < 5
    said = [text for text in caplog.messages if "three.gif" in text]
    assert said == ["three.gif: has several pictures (an animation), of which the first is used"]


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "HEIC"])
def test_too_many_pixels_are_refused_before_decoding(face, kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit does not decide
    data = saved(face, kind)
    assert decode_image(data, "photo", 200 * 150).shape == (200, 150, 3)
    monkeypatch.setattr("mtmsa_lightning._utils.images.decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImageError, match="photo: too large: 150 x 200"):
        decode_image(data, "photo", 200 * 150 - 1)


def lying(data, side):
    """Return a file of pictures whose header says another size."""
    at = data.index(b"ispe") + 8
    return data[:at] + side.to_bytes(4) * 2 + data[at + 8 :]


def test_a_picture_larger_than_the_header_says_is_not_returned(face):
    large = face.resize((400, 400))  # libheif allows 65,536 pixels in any case
    with pytest.raises(UnreadableImageError, match="photo: not an image that can be decoded"):
        decode_image(lying(saved(large, "HEIC"), 64), "photo")
    assert decode_image(lying(saved(large, "AVIF", speed=10), 64), "photo").shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "HEIC"])
def test_half_a_file_is_refused(face, kind):
    data = saved(face, kind)
    with pytest.raises(UnreadableImageError, match="photo: not an image that can be decoded"):
        decode_image(data[: len(data) // 8], "photo")


def test_a_missing_decoder_is_named_with_the_remedy(face, monkeypatch):
    heic, avif = saved(face, "HEIC"), saved(face, "AVIF")
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    monkeypatch.delitem(pillow_formats.PIL.Image.OPEN, "AVIF")
    with pytest.raises(UnreadableImageError, match=r"needs the extra `heif`: pip install '.*\[heif\]'"):
        decode_image(heic, "IMG_0001.HEIC")
    with pytest.raises(UnreadableImageError, match="AVIF needs Pillow 11"):
        decode_image(avif, "photo.avif")


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"\xff\x0a" + bytes(40), "photo.jxl", "JPEG XL: convert it to JPEG"),
        (b"<html>404</html>", "photo.jpg", "web page: it was saved in place of a photo"),
        (b"II*\0" + bytes(40), "photo.nef", "camera raw: convert it to JPEG"),
    ],
)
def test_other_formats_are_named_with_the_remedy(data, name, said):
    with pytest.raises(UnreadableImageError, match=f"{name}: not an image that can be decoded .*{said}"):
        decode_image(data, name)
