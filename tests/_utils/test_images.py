"""Decoding compared with Pillow, which shares no code with OpenCV but the JPEG library's family."""

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mtmsa_lightning._utils.images import (
    UnreadableImageError,
    central_square,
    decode_image,
    decode_reduced,
    read_image,
    unreadable,
)
from mtmsa_lightning.errors import DataError

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def picture():
    """A smooth colour picture without any symmetry, higher than wide."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (50, 60), interpolation=cv2.INTER_CUBIC))


def pillow_rgb(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def assert_close(actual, expected, tolerance):
    assert actual.dtype == np.uint8
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {"quality": 95, "subsampling": 0}),
        ("jpg", {"quality": 60}),
        ("jpg", {"progressive": True}),
        ("png", {}),
        ("webp", {"lossless": True}),
        ("webp", {"quality": 80}),
        ("bmp", {}),
        ("tif", {}),
    ],
)
def test_formats(tmp_path, picture, suffix, options):
    path = tmp_path / f"face.{suffix}"
    picture.save(path, **options)
    assert_close(read_image(path), pillow_rgb(path), 2)


def test_lossless_formats_return_the_picture_itself(tmp_path, picture):
    for suffix in ("png", "bmp"):
        picture.save(tmp_path / f"face.{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"face.{suffix}"), np.asarray(picture))


def with_alpha(picture):
    ramp = np.tile(np.linspace(0, 255, picture.width).astype(np.uint8), (picture.height, 1))
    picture = picture.convert("RGBA")
    picture.putalpha(Image.fromarray(ramp))
    return picture


def with_black(picture):
    """The four inks of a press, black among them: Pillow's own conversion never uses black."""
    *inks, _ = picture.convert("CMYK").split()
    ramp = np.tile(np.linspace(0, 200, picture.width).astype(np.uint8), (picture.height, 1))
    return Image.merge("CMYK", [*inks, Image.fromarray(ramp)])


@pytest.mark.parametrize(
    ("name", "convert", "tolerance"),
    [
        ("grey.jpg", lambda picture: picture.convert("L"), 2),
        ("grey.png", lambda picture: picture.convert("L"), 0),
        ("black_and_white.png", lambda picture: picture.convert("1"), 0),
        ("palette.png", lambda picture: picture.quantize(40), 0),
        ("cmyk.jpg", lambda picture: picture.convert("CMYK"), 2),
        ("cmyk_with_black.jpg", with_black, 2),
        ("rgba.png", with_alpha, 0),
        ("grey_alpha.png", lambda picture: with_alpha(picture).convert("LA"), 0),
    ],
)
def test_colour_modes_become_rgb(tmp_path, picture, name, convert, tolerance):
    convert(picture).save(tmp_path / name)
    assert_close(read_image(tmp_path / name), pillow_rgb(tmp_path / name), tolerance)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_high_byte(tmp_path, channels):
    deep = np.random.default_rng(1).integers(0, 2**16, (20, 30, channels), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    expected = np.broadcast_to(deep // 256, (20, 30, 3))
    assert_close(read_image(tmp_path / "deep.png"), expected, 1)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, picture, suffix, orientation):
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture.save(path, exif=exif.tobytes())
    image = read_image(path)
    assert image.shape == ((60, 50, 3) if orientation < 5 else (50, 60, 3))
    assert_close(image, pillow_rgb(path), 2)


@pytest.mark.parametrize("name", ["Zoë Müller.png", "顔.png", "a b#c%20.png", "no_suffix", "wrong.jpg"])
def test_any_path_and_any_ending(tmp_path, picture, name):
    picture.save(tmp_path / name, format="png")
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), np.asarray(picture))


def bad_files(folder, picture):
    """Write one file per way of being no image; return their paths in order."""
    whole = {}
    for suffix in ("jpg", "png", "webp"):
        picture.save(folder / f"good.{suffix}")
        whole[suffix] = (folder / f"good.{suffix}").read_bytes()
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"not an image\n" * 20,
        "page.png": b"<html>404</html>",
        "header.jpg": whole["jpg"][:100],
        "half.jpg": whole["jpg"][: len(whole["jpg"]) // 2],
        "half.png": whole["png"][: len(whole["png"]) // 2],
        "half.webp": whole["webp"][: len(whole["webp"]) // 2],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return [folder / name for name in (*contents, "folder.jpg", "missing.jpg")]


def test_no_image_raises_an_error_that_names_the_file(tmp_path, picture):
    for path in bad_files(tmp_path, picture):
        with pytest.raises(UnreadableImageError, match=path.name):
            read_image(path)
    assert issubclass(UnreadableImageError, DataError)


def test_unreadable_lists_messages_in_input_order(tmp_path, picture):
    bad = bad_files(tmp_path, picture)[::-1]
    good = tmp_path / "good.jpg"
    mixed = [path for path in bad for path in (good, path, good)]
    for workers in (1, 8):
        messages = unreadable(mixed, workers)
        assert [message.split(":")[0] for message in messages] == [str(path) for path in bad]
    assert unreadable([good] * 3) == unreadable([]) == []


@pytest.mark.parametrize(
    ("height", "width", "fraction", "rows", "columns"),
    [
        (10, 20, 1.0, slice(0, 10), slice(5, 15)),
        (20, 9, 1.0, slice(5, 14), slice(0, 9)),
        (9, 9, 1.0, slice(0, 9), slice(0, 9)),
        (10, 20, 0.5, slice(2, 7), slice(7, 12)),
        (20, 10, 0.8, slice(6, 14), slice(1, 9)),
        (240, 200, 0.85, slice(35, 205), slice(15, 185)),
        (9, 9, 0.34, slice(3, 6), slice(3, 6)),
        (5, 7, 0.01, slice(2, 3), slice(3, 4)),
    ],
)
def test_central_square(height, width, fraction, rows, columns):
    image = np.arange(height * width * 3).reshape(height, width, 3).astype(np.uint8)
    np.testing.assert_array_equal(central_square(image, fraction), image[rows, columns])


def tiff_with_two_sizes(first, second):
    """Return a grey TIFF whose width and height are given twice."""
    strip = zlib.compress(bytes(second * second))
    tags = [(256, first), (256, second), (257, first), (257, second), (258, 8), (259, 8), (262, 1)]
    tags += [(273, 8), (277, 1), (278, second), (279, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory


@pytest.mark.parametrize(("first", "second"), [(40, 9000), (9000, 40), (40, 50), (50, 40)])
def test_a_file_that_tells_two_sizes_is_refused(first, second):
    data = tiff_with_two_sizes(first, second)
    with pytest.raises(UnreadableImageError) as raised:
        decode_image(data, "twice.tif")
    assert "OpenCV" not in str(raised.value)


def test_opencv_has_the_limit_whatever_loads_it():
    code = (
        "import mtmsa_lightning.app.drawing, cv2, numpy\n"
        "try: cv2.imdecode(numpy.frombuffer(b'P4 9000 9000 ' + bytes(9000 * 1125), numpy.uint8), 1)\n"
        "except cv2.error as error: assert 'CV_IO_MAX_IMAGE_PIXELS' in str(error)\n"
        "else: raise SystemExit('decoded')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("format", ["IM", "SPIDER", "PCX", "TGA"])
def test_formats_of_no_photos_are_refused(picture, format):
    file = io.BytesIO()
    picture.convert("F" if format == "SPIDER" else "RGB").save(file, format)
    with pytest.raises(UnreadableImageError):
        decode_image(file.getvalue(), "photo")


def test_a_photo_cd_header_behind_another_format_does_not_count():
    hdr = b"#?RADIANCE\n" + b"#" * 2036 + b"\nPCD_\n" + b"\nFORMAT=32-bit_rle_rgbe\n\n-Y 9000 +X 9000\n"
    with pytest.raises(UnreadableImageError):
        decode_image(hdr.ljust(8192, b"\0"), "photo.hdr")


def jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **{"quality": 95, "subsampling": 0} | options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_half_its_sides(picture, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = jpeg(picture.resize((101, 120)), exif=exif.tobytes())
    whole, factor = decode_reduced(data, "photo", 101 * 120)
    assert factor == 1
    np.testing.assert_array_equal(whole, decode_image(data, "photo"))
    half, factor = decode_reduced(data, "photo", 101 * 120 // 4 + 1)
    assert factor == 2
    height, width = whole.shape[:2]
    assert half.shape == (-(-height // 2), -(-width // 2), 3)
    expected = cv2.resize(whole, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    assert np.abs(half[: height // 2, : width // 2].astype(int) - expected).mean() < 3
    with pytest.raises(UnreadableImageError, match="too large"):
        decode_image(data, "photo", 101 * 120 - 1)


def test_what_cannot_be_decoded_row_by_row_is_not_reduced(picture):
    """A progressive file is kept in memory at full size, and a PNG file has no smaller version."""
    png = io.BytesIO()
    picture.save(png, "PNG")
    for data in (jpeg(picture, progressive=True), png.getvalue()):
        with pytest.raises(UnreadableImageError, match="too large: 50 x 60"):
            decode_reduced(data, "photo", 50 * 60 - 1)
    for streamed in (jpeg(picture), jpeg(picture.convert("L")), jpeg(picture.convert("CMYK"))):
        assert decode_reduced(streamed, "photo", 50 * 60 - 1).factor == 2
    with pytest.raises(UnreadableImageError, match="too large: 50 x 60"):
        decode_reduced(jpeg(picture), "photo", 50 * 60 // 4 - 1)
