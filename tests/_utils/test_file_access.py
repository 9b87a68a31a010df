import os
import socket
import unicodedata

import pytest

from mtmsa_lightning._utils.file_access import find_normalised, open_regular, read_regular


def irregular(folder):
    """Make everything under an image's name that is no file; return the paths."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "nothing.jpg").symlink_to("gone.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "device.jpg").symlink_to(os.devnull)
    (folder / "to_pipe.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.jpg"))
    names = ("pipe", "folder", "nothing", "circle", "device", "to_pipe", "socket")
    return [folder / f"{name}.jpg" for name in names]


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "real").write_bytes(b"bytes")
    (tmp_path / "link.jpg").symlink_to("real")
    assert read_regular(tmp_path / "link.jpg") == b"bytes"
    for path in [*irregular(tmp_path), tmp_path / "a\0b", tmp_path / ("a" * 300)]:
        with pytest.raises(OSError) as caught:  # noqa: PT011  # of any kind, but with a text
            open_regular(path)
        assert caught.value.strerror


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=r"larger than 1,000 bytes"):
        read_regular(tmp_path / "sparse", 1000)


@pytest.mark.parametrize(("stored", "asked"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_names_are_found_in_any_form(tmp_path, stored, asked):
    text = "Zoë/Ünal.jpg"
    file = tmp_path / unicodedata.normalize(stored, text)
    file.parent.mkdir()
    file.touch()
    assert find_normalised(tmp_path / unicodedata.normalize(asked, text)) == file
    absent = tmp_path / unicodedata.normalize(asked, "Zoë/ü.jpg")
    assert find_normalised(absent).name == absent.name


def test_the_exact_name_comes_first(tmp_path):
    both = [tmp_path / unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    for path in both:
        path.touch()
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes one form of a name only")
    assert [find_normalised(path) for path in both] == both
