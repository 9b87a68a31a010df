"""The format of a file by its first bytes, and what to do with photos that cannot be read."""

import re
from pathlib import Path, PurePath

from mtmsa_lightning._utils.file_access import open_regular
from mtmsa_lightning._utils.image_suffixes import DATA_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES

HEAD = 64
"""Bytes that tell a format."""

READ = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "JPEG 2000", "AVIF", "HEIC")
"""Formats of photos that are read; HEIC with the extra ``heif``."""

_CONVERT = "convert it to JPEG"

REMEDIES = {
    "camera raw": f"{_CONVERT} in a raw converter",
    "JPEG XL": _CONVERT,
    "Photoshop": _CONVERT,
    "SVG": _CONVERT,
    "PDF": "save its photos as JPEG",
    "video": "save a picture of it as JPEG",
    "web page": "it was saved in place of a photo: download the photo again",
}
"""Formats that are recognised but not read, with the remedy."""

_BMP = rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}"  # with a known size of its second header
_MAGIC = {
    rb"\xff\xd8\xff": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"RIFF.{4}WEBP": "WebP",
    _BMP: "BMP",
    rb"GIF8[79]a": "GIF",
    rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51": "JPEG 2000",
    rb"II\*\0.{4}CR|FUJIFILMCCD-RAW|IIR[OS]|IIU\0": "camera raw",
    rb"II\*\0|MM\0\*": "TIFF",
    rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    rb"8BPS": "Photoshop",
    rb"%PDF-": "PDF",
    rb"(?i)\s*<svg|\s*<\?xml.*<svg": "SVG",
    rb"(?i)\s*<(!doctype html|html)": "web page",
    rb"\x1aE\xdf\xa3|RIFF.{4}AVI ": "video",
}
_PATTERNS = {re.compile(pattern, re.DOTALL): name for pattern, name in _MAGIC.items()}

_BRANDS = {  # of ISO base media files, the first that matches
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
    "camera raw": {b"crx "},
}


def format_of(head: bytes, name: str | PurePath = "") -> str:
    """Return the format of a file by its first bytes, and of raw files by the name; "" if unknown."""
    if PurePath(name).suffix.lower() in RAW_SUFFIXES:
        return "camera raw"
    if head[4:8] == b"ftyp":
        brands = {head[at : at + 4] for at in (8, *range(16, min(HEAD, int.from_bytes(head[:4])), 4))}
        return next((kind for kind, of_kind in _BRANDS.items() if brands & of_kind), "video")
    return next((kind for pattern, kind in _PATTERNS.items() if pattern.match(head)), "")


def remedy(head: bytes, name: str | PurePath = "") -> str:
    """Return the format of a file that is not read, with what to do; "" if it is read or unknown."""
    kind = format_of(head[:HEAD], name)
    return f"{kind}: {REMEDIES[kind]}" if kind in REMEDIES else ""


def told_format(path: Path) -> str:
    """Return the format of a regular file without an image's suffix; "" if unknown or not readable.

    Files with the suffix of a table or the like are not opened.
    """
    suffix = path.suffix.lower()
    if suffix in DATA_SUFFIXES:
        return ""
    if suffix in RAW_SUFFIXES:
        return "camera raw"
    try:
        with open_regular(path) as file:
            return format_of(file.read(HEAD), path)
    except OSError:
        return ""


def is_image(path: Path) -> bool:
    """Return whether a file is read as an image: by its suffix, otherwise by its content."""
    return path.suffix.lower() in IMAGE_SUFFIXES or told_format(path) in READ
