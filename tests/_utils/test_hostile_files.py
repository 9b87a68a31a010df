"""Files that are no images, or too large ones: named by every command that opens images, never waited for."""

import os
import struct
import zlib

import cv2
import pandas as pd
import pytest

from mtmsa_lightning import FaceCSV, UTKFace
from mtmsa_lightning._utils.images import UnreadableImageError, read_image
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.audit.audit import audit
from mtmsa_lightning.data.face_dataset import SampleKey
from mtmsa_lightning.data.release_files import content_column, hash_files, list_images
from mtmsa_lightning.inference.inputs import find_inputs


def bomb(side):
    """A PNG of a few bytes whose header says side x side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


BAD = {
    "pipe": "no regular file",
    "gone": "no regular file",
    "circle": "no regular file",
    "bomb": "too large: 10000 x 10000 are 100 million pixels, the limit is 64 million",
    "empty": "not an image that can be decoded (the file is empty)",
    "text": "not an image that can be decoded",
}


def name_of(kind):
    return f"30_0_0_2017010100000000{list(BAD).index(kind)}.jpg.chip.jpg"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, draw):
    """UTKFace with twelve good faces, one of each kind of ``BAD``, and a folder under an image's name."""
    root = tmp_path_factory.mktemp("hostile")
    for row in range(12):
        cv2.imwrite(str(root / f"{20 + row}_{row % 2}_0_20170101000001{row:03d}.jpg.chip.jpg"), draw(row, 64))
    os.mkfifo(root / name_of("pipe"))
    (root / name_of("gone")).symlink_to("nothing")
    (root / name_of("circle")).symlink_to(name_of("circle"))
    (root / name_of("bomb")).write_bytes(bomb(10_000))
    (root / name_of("empty")).touch()
    (root / name_of("text")).write_text("no image")
    (root / "40_0_0_20170101000000000.jpg").mkdir()
    rows = "".join(f"{path},30\n" for path in [*(name_of(kind) for kind in BAD), *list_images(root)])
    (root / "faces.csv").write_text(f"path,age\n{rows}")
    return root


def test_only_regular_files_are_listed(hostile):
    listing = list_images(hostile)
    assert len(listing) == 12 + 3
    assert listing.irregular == sorted(name_of(kind) for kind in ("pipe", "gone", "circle"))


@pytest.mark.parametrize("kind", BAD)
def test_reading_and_hashing_name_the_reason(hostile, kind):
    message = "cannot be read" if BAD[kind] == "no regular file" else BAD[kind]
    with pytest.raises(UnreadableImageError) as caught:
        read_image(hostile / name_of(kind))
    assert f"{name_of(kind)}: {message}" in str(caught.value)
    if BAD[kind] == "no regular file":
        assert content_column(hostile, [name_of(kind)]) == [""]
        assert hash_files([hostile / name_of(kind)]).tolist() == [0]


@pytest.mark.parametrize("cls", [UTKFace, FaceCSV])
def test_tables_report_what_is_no_regular_file(hostile, cls):
    report = cls(root=str(hostile), num_workers=0).table.report
    (reason,) = {row.reason for row in report.dropped if "regular" in row.reason}
    assert reason.startswith("not a regular file")
    assert report.reasons()[reason] == 3


def test_training_counts_what_cannot_be_read_with_its_reason(hostile, monkeypatch):
    data = UTKFace(root=str(hostile), num_workers=0, image_size=64, protocol="train_all")
    data.setup("fit")
    monkeypatch.setattr(cv2, "imdecode", refusing(cv2.imdecode, bomb(10_000)))
    faults = {}
    for dataset in (data.train_dataset, data.val_dataset):
        for row in range(len(dataset)):
            sample = dataset[SampleKey(row)]
            faults |= {sample["id"]: sample["error"]} if sample["error"] else {}
    for kind in ("bomb", "empty", "text"):
        assert BAD[kind] in faults.pop(f"utkface/{name_of(kind)}")
    assert not faults


def refusing(decode, data):
    """Decode anything but these bytes."""

    def work(array, flags):
        assert array.tobytes() != data, "a bomb was decoded"
        return decode(array, flags)

    return work


def test_an_audit_finds_them(hostile, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", refusing(cv2.imdecode, bomb(10_000)))
    found = audit(UTKFace(root=str(hostile), num_workers=0))
    (unreadable,) = (finding for finding in found.findings if finding.kind == "unreadable")
    assert unreadable.count == 3
    for kind in ("bomb", "empty", "text"):
        assert any(f"{name_of(kind)}: {BAD[kind]}" in text for text in unreadable.examples)
    (dropped,) = (finding for finding in found.findings if finding.kind == "dropped")
    assert any("not a regular file" in text and text.endswith("3") for text in dropped.examples)


def test_preparing_leaves_them_out_with_the_reason(hostile, tmp_path):
    out = tmp_path / "set"
    options = ["--size", "64", "--num_workers", "1", "--max_unreadable", "0.5", "--pixels=false"]
    main(["prepare", "--data", "utkface", "--root", str(hostile), "--out", str(out), *options])
    reasons = pd.read_csv(out / "skipped.csv").set_index("source")["reason"].to_dict()
    assert set(reasons) == {name_of(kind) for kind in ("bomb", "empty", "text")}
    assert all(BAD[kind] in reasons[name_of(kind)] for kind in ("bomb", "empty", "text"))
    assert len(pd.read_parquet(out / "faces.parquet")) == 12


def test_checking_does_not_wait_for_a_pipe(hostile, capsys):
    main(["check", "--data", "utkface", "--root", str(hostile), "--timing=false"])
    assert "rows skipped: 3" in capsys.readouterr().out


def test_predicting_passes_over_what_is_no_file(hostile, caplog):
    caplog.set_level("INFO")
    assert len(find_inputs([hostile])) == 12 + 3
    assert any("skipped" in text and name_of("pipe") in text for text in caplog.messages)
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        find_inputs([hostile / name_of("pipe")])[0].read()
