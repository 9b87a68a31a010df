import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mtmsa_lightning.data.prepared.archives import (
    ArchiveError,
    ArchiveLimitError,
    ArchiveLimits,
    UnsafeArchiveError,
    extract,
    is_archive,
)

PHOTO = np.random.default_rng(0).bytes(20_000)
RELEASE = {"table.csv": b"path,age\n", "Album2/000001_0M25.JPG": PHOTO, "Album2/b/\u00e4 1.jpg": b"x"}
TAR_MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}


def write_zip(file: Path, members: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0) << 16
            archive.writestr(info, data)
    return file


def write_tar(file: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    mode = next(mode for suffix, mode in TAR_MODES.items() if file.name.endswith(suffix))
    with tarfile.open(file, mode) as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            content = b"" if isinstance(data, tarfile.TarInfo) else data
            info.name, info.size = name, len(content) or info.size
            archive.addfile(info, io.BytesIO(content))
    return file


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def written(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def refused(archive: Path, folder: Path, error: type[ArchiveError], match: str, **limits: float) -> None:
    """The error is of that kind, and neither the target nor anything beside it is left."""
    before = written(folder)
    with pytest.raises(error, match=match) as raised:
        extract(archive, folder / "release", ArchiveLimits(**limits))
    assert type(raised.value) is error
    assert str(archive) in str(raised.value)
    assert written(folder) == before
    assert not (folder / "release").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "A.ZIP"])
def test_a_release_comes_out_as_it_went_in(tmp_path, name):
    write = write_zip if name.lower().endswith("zip") else write_tar
    archive = write(tmp_path / name, {**RELEASE, "__MACOSX/._table.csv": b"notes"})
    assert is_archive(archive)
    extract(archive, tmp_path / "release")
    assert written(tmp_path / "release") == RELEASE


def test_it_is_extracted_once(tmp_path):
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    extract(archive, tmp_path / "release")
    (tmp_path / "release" / "table.csv").write_bytes(b"mine")
    extract(archive, tmp_path / "release")
    assert (tmp_path / "release" / "table.csv").read_bytes() == b"mine"


def test_what_an_interrupted_extraction_left_is_replaced(tmp_path):
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    half = tmp_path / ".release.partial" / "Album2"
    half.mkdir(parents=True)
    (half / "000001_0M25.JPG").write_bytes(PHOTO[:50])
    (half / "stray.jpg").write_bytes(b"")
    extract(archive, tmp_path / "release")
    assert written(tmp_path / "release") == RELEASE


def test_leading_dots_and_folders_are_no_detours(tmp_path):
    folder = special(tarfile.DIRTYPE)
    archive = write_tar(
        tmp_path / "a.tar", {"./": folder, "./Album2/": special(tarfile.DIRTYPE), "./t.csv": b"x"}
    )
    extract(archive, tmp_path / "release")
    assert written(tmp_path / "release") == {"t.csv": b"x"}


NAMES = [
    "../out.jpg", "a/../../out.jpg", "a/..", "..", "/etc/out.jpg", "//server/out.jpg", "C:/out.jpg",
    "C:out.jpg",     "a\\..\\..\\out.jpg", "\\\\server\\out.jpg", "a//b.jpg", "a\x01.jpg", "a\n.jpg",
    "file.jpg:stream",     "a/" + 256 * "b", 600 * "a/" + "b.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_outside_or_are_odd(tmp_path, name, kind):
    write = write_zip if kind == "zip" else write_tar
    archive = write(tmp_path / f"a.{kind}", {"fine.jpg": PHOTO, name: b"x"})
    refused(archive, tmp_path, UnsafeArchiveError, "outside of the archive or not a plain file name")


def test_a_name_that_ends_at_a_zero_byte(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"fine.jpg": b"x", "aXb.jpg": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"aXb.jpg", b"a\0b.jpg"))
    refused(archive, tmp_path, UnsafeArchiveError, "not a plain file name")


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "/etc/passwd"),
        special(tarfile.SYMTYPE, "fine.jpg"),
        special(tarfile.LNKTYPE, "/etc/passwd"),
        special(tarfile.LNKTYPE, "fine.jpg"),
        special(tarfile.CHRTYPE),
        special(tarfile.BLKTYPE),
        special(tarfile.FIFOTYPE),
    ],
    ids=[
        "link outside",
        "link",
        "hard link outside",
        "hard link",
        "character device",
        "block device",
        "pipe",
    ],
)
def test_links_and_devices_in_a_tar(tmp_path, member):
    archive = write_tar(tmp_path / "a.tar", {"fine.jpg": PHOTO, "odd.jpg": member})
    refused(archive, tmp_path, UnsafeArchiveError, r"odd.jpg: a link or special file")


def test_writing_through_a_link(tmp_path):
    """The classic: a link to a folder outside, then a file below it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    members = {"door": special(tarfile.SYMTYPE, str(outside)), "door/in.jpg": b"x"}
    refused(write_tar(tmp_path / "a.tar", members), tmp_path, UnsafeArchiveError, "door: a link")
    assert not list(outside.iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip(tmp_path, kind):
    archive = write_zip(tmp_path / "a.zip", {"odd.jpg": b"/etc/passwd"}, {"odd.jpg": kind | 0o777})
    refused(archive, tmp_path, UnsafeArchiveError, "odd.jpg: a link or special file")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "names", [("a.jpg", "a.jpg"), ("a.jpg", "./a.jpg"), ("a", "a/b.jpg"), ("a/b.jpg", "a")]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice(tmp_path, kind, names):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for name in names:
                opened.writestr(name, b"x")
    else:
        with tarfile.open(archive, "w") as opened:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 1
                opened.addfile(info, io.BytesIO(b"x"))
    refused(archive, tmp_path, UnsafeArchiveError, "is repeated")


LIMITS = [
    ("holds more than 2 members", {"files": 2}),
    ("larger than 19,999 bytes", {"file_bytes": 19_999}),
    ("holds more than 20,000 bytes", {"total_bytes": 20_000}),
]  # fmt: skip


@pytest.mark.parametrize(("match", "limits"), LIMITS)
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_limits_of_number_and_size(tmp_path, name, match, limits):
    write = write_zip if name.endswith("zip") else write_tar
    refused(write(tmp_path / name, RELEASE), tmp_path, ArchiveLimitError, match, **limits)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_bomb_is_stopped_by_its_ratio(tmp_path, name):
    write = write_zip if name.endswith("zip") else write_tar
    archive = write(tmp_path / name, {"zeros.jpg": bytes(40 << 20)})
    assert archive.stat().st_size < 50_000
    refused(archive, tmp_path, ArchiveLimitError, "unpacks to more than 100 times its own size")


def test_small_files_may_shrink_by_any_ratio(tmp_path):
    extract(write_zip(tmp_path / "a.zip", {"blanks.csv": bytes(1 << 20)}), tmp_path / "release")
    assert (tmp_path / "release" / "blanks.csv").stat().st_size == 1 << 20


def test_a_size_that_the_header_hides_is_counted(tmp_path):
    """A zip whose directory states one byte for a megabyte."""
    archive = write_zip(tmp_path / "a.zip", {"a.jpg": bytes(1 << 20)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((1 << 20).to_bytes(4, "little"), (1).to_bytes(4, "little")))
    refused(archive, tmp_path, ArchiveError, "damaged")


def test_a_header_that_is_a_bomb(tmp_path):
    """A pax header of 60 MB, which unpacks in memory before there is any file."""
    archive = tmp_path / "a.tar.gz"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 60 << 20
    with gzip.open(archive, "wb") as stream:
        stream.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(60 << 20))
    refused(archive, tmp_path, ArchiveLimitError, "a header: larger", file_bytes=1 << 20)
    refused(archive, tmp_path, ArchiveLimitError, "100 times its own size")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "flipped"])
def test_damage(tmp_path, name, damage):
    write = write_zip if name.endswith("zip") else write_tar
    archive = write(tmp_path / name, {f"{k}.jpg": PHOTO for k in range(4)})
    data = archive.read_bytes()
    flipped = data[:4000] + bytes(byte ^ 255 for byte in data[4000:4100]) + data[4100:]
    archive.write_bytes(
        {"cut": data[: len(data) // 2], "text": b"no archive" * 99, "empty": b"", "flipped": flipped}[damage]
    )
    if (name, damage) == ("a.tar", "flipped"):  # a plain tar has no checksums of its files
        extract(archive, tmp_path / "release")
    else:
        refused(archive, tmp_path, ArchiveError, "damaged or not an archive")


def test_an_encrypted_zip_is_named(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.jpg": b"x"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag in the file's own header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    archive.write_bytes(bytes(data))
    refused(archive, tmp_path, ArchiveError, "encrypted")


def test_no_room_on_the_disk(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    refused(archive, tmp_path, ArchiveLimitError, "does not fit on the disk")


def test_an_archive_in_an_archive_stays_a_file(tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"../out.jpg": b"x"}).read_bytes()
    extract(write_zip(tmp_path / "a.zip", {"inner.zip": inner}), tmp_path / "release")
    assert written(tmp_path / "release") == {"inner.zip": inner}


@pytest.mark.parametrize("name", ["a.rar", "a.jpg", "zip"])
def test_other_files_are_no_archives(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert not is_archive(tmp_path / name)
    assert not is_archive(tmp_path)
