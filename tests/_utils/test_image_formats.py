"""Formats told by content, on files written by Pillow and on the first bytes that specifications give."""

import io

import pytest
from PIL import Image

from mtmsa_lightning._utils import image_formats
from mtmsa_lightning._utils.image_formats import HEAD, READ, format_of, is_image, remedy, told_format


def written(kind):
    file = io.BytesIO()
    Image.new("RGB", (20, 30)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "WebP"), ("BMP", "BMP"), ("TIFF", "TIFF"), ("GIF", "GIF"),
        ("JPEG2000", "JPEG 2000"), ("AVIF", "AVIF"), ("PDF", "PDF"), ("PPM", ""),
    ],
)  # fmt: skip
def test_files_of_pillow(kind, name):
    assert format_of(written(kind)[:HEAD]) == name


def boxed(*brands):
    head = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(head) + 4).to_bytes(4) + head + b"....mdat"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (boxed(b"heic", b"mif1", b"heic"), "HEIC"),
        (boxed(b"mif1", b"mif1", b"heix"), "HEIC"),
        (boxed(b"mif1", b"mif1", b"avif"), "AVIF"),
        (boxed(b"isom", b"iso2", b"mp41"), "video"),
        (boxed(b"qt  "), "video"),
        (boxed(b"crx "), "camera raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="">', "SVG"),
        (b"BM is the start of a text, and not a picture at all", ""),
        (b"P6 is the start of another one", ""),
        (b"", ""),
    ],
)
def test_first_bytes(head, name):
    assert format_of(head) == name
    assert bool(remedy(head)) == (name not in (*READ, ""))


def test_raw_files_are_told_by_their_suffix():
    assert format_of(written("TIFF"), "a.NEF") == "camera raw"
    assert remedy(written("TIFF"), "a.dng").startswith("camera raw: convert it to JPEG")
    assert remedy(written("TIFF"), "a.tif") == ""


def test_files_beside_images_are_not_opened(tmp_path, monkeypatch):
    for name in ("IMG_0001", "photo.dat", "notes.txt"):
        (tmp_path / name).write_bytes(written("JPEG"))
    (tmp_path / "a.jpg").write_text("not opened")
    assert [is_image(tmp_path / name) for name in ("IMG_0001", "photo.dat", "a.jpg")] == [True] * 3
    assert told_format(tmp_path / "missing") == told_format(tmp_path) == ""
    monkeypatch.setattr(image_formats, "open_regular", lambda path: pytest.fail(f"{path} was opened"))
    assert not is_image(tmp_path / "notes.txt")
    assert is_image(tmp_path / "a.jpg")
