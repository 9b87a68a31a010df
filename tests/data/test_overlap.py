"""A checkpoint is not tested on what it was trained on: neither the same ids nor the same bytes."""

import json
import logging
import subprocess
import threading
from pathlib import Path

import pytest
import torch

from mtmsa_lightning.data import training_hashes as hashing
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.overlap import OverlapError, check_overlap
from mtmsa_lightning.data.preprocessing_check import preprocessing_of, warn_preprocessing
from mtmsa_lightning.data.release_files import content_column
from mtmsa_lightning.data.training_hashes import training_hashes

SPLIT = ["train"] * 6 + ["val"] * 2 + ["test"] * 4


class Made(FaceDataModule):
    """A table made up in the test: the images are never decoded, only hashed."""

    name = "made"
    protocols = ("predefined", "whole")

    def __init__(self, table: FaceTable, protocol: str = "predefined") -> None:
        super().__init__(protocol=protocol, num_workers=0)
        self.made = table
        self.race_classes = table.race_classes
        self.setup()

    def read(self) -> FaceTable:
        return self.made


@pytest.fixture
def make(face_table, tmp_path):
    """Make a DataModule; ``contents`` are the bytes of its images, which differ by default."""

    def make(release: str, contents: list[str] | None = None, **arguments: str) -> Made:
        table = face_table(len(SPLIT), split=SPLIT)
        root = tmp_path / release
        root.mkdir()
        texts = contents or [f"{release} {path}" for path in table.frame["path"]]
        for path, text in zip(table.frame["path"], texts, strict=True):
            (root / path).write_text(text)
        frame = table.frame.assign(id=release + "/" + table.frame["path"])
        return Made(FaceTable(frame, root, release, "rule", table.race_classes, table.report), **arguments)

    return make


def record(data: Made) -> dict[str, object]:
    return data.provenance() | training_hashes(data)


def with_ids(data: Made, ids: list[str]) -> Made:
    table = data.table
    frame = table.frame.assign(id=ids)
    return Made(
        FaceTable(frame, table.root, table.dataset, "rule", table.race_classes, table.report), data.protocol
    )


def test_a_held_out_part_passes(make, caplog):
    trained = make("a")
    with caplog.at_level(logging.WARNING):
        check_overlap(record(trained), trained)
        check_overlap(record(trained), make("b", protocol="whole"))
    assert not caplog.records


def test_a_checkpoint_without_a_record_passes(make, caplog):
    data = make("a")
    with caplog.at_level(logging.WARNING):
        check_overlap({}, data)
        check_overlap(data.provenance(), data)
    assert not caplog.records


def test_known_ids_are_refused_with_their_number_and_the_first_five(make):
    trained = make("a")
    other_bytes = make("b", protocol="whole")
    tested = with_ids(other_bytes, trained.table.frame["id"].tolist())
    with pytest.raises(OverlapError) as refused:
        check_overlap(record(trained), tested)
    message = str(refused.value)
    assert "8 of 12 test faces" in message  # six that trained, two that selected
    assert [f"a/{row:05d}.jpg" in message for row in range(12)] == [True] * 5 + [False] * 7
    assert "--allow_overlap" in message
    with pytest.raises(OverlapError, match="choose a split whose test part was held out") as refused:
        check_overlap(record(trained), tested, calibrating=True)  # which has no such option
    assert "--allow_overlap" not in str(refused.value)


@pytest.mark.parametrize(("row", "refused"), [(0, True), (5, True), (7, True), (8, False), (11, False)])
def test_train_and_val_count_and_test_does_not(make, row, refused):
    trained = make("a")
    ids = [f"b/{number}" for number in range(12)]
    tested = with_ids(make("b"), [*ids[:-1], trained.table.frame["id"][row]])
    if refused:
        with pytest.raises(OverlapError, match=rf"1 of 4 test faces .*a/{row:05d}\.jpg"):
            check_overlap(record(trained), tested)
    else:
        assert check_overlap(record(trained), tested) == []


def test_the_same_picture_under_another_id_is_refused(make):
    trained = make("a")
    contents = [f"new {row}" for row in range(12)]
    contents[9] = "a 00007.jpg"
    with pytest.raises(OverlapError, match=r"1 of 4 test faces have the same bytes.*b/00009\.jpg"):
        check_overlap(record(trained), make("b", contents))


def test_copies_within_the_checkpoints_own_split_are_only_warned_about(make, caplog):
    contents = [f"new {row}" for row in range(12)]
    contents[8] = contents[10] = contents[0]
    trained = make("a", contents)
    with caplog.at_level(logging.WARNING):
        check_overlap(record(trained), trained)
    (warning,) = caplog.records
    assert "2 of 4 test faces have the same bytes" in warning.message
    assert "a/00008.jpg, a/00010.jpg" in warning.message


def test_copies_in_any_other_split_are_refused(make):
    contents = [f"new {row}" for row in range(12)]
    contents[8] = contents[0]
    trained = make("a", contents)
    other = dict(record(trained), fingerprints=make("b").provenance()["fingerprints"])
    with pytest.raises(OverlapError, match="1 of 4 test faces have the same bytes"):
        check_overlap(other, trained)


def test_force_turns_refusals_into_warnings(make, caplog):
    trained = make("a")
    contents = [f"new {row}" for row in range(12)]
    contents[11] = "a 00003.jpg"
    other = make("b", contents)
    tested = with_ids(other, [*other.table.frame["id"][:8], "a/00001.jpg", "b/9", "b/10", "b/11"])
    with caplog.at_level(logging.WARNING):
        check_overlap(record(trained), tested, force=True)
    ids, copies = (entry.message for entry in caplog.records)
    assert "1 of 4" in ids
    assert "a/00001.jpg" in ids
    assert "1 of 4" in copies
    assert "b/11" in copies


def test_hashes_survive_a_checkpoint(make, tmp_path):
    trained = make("a")
    torch.save({"provenance": record(trained)}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)["provenance"]
    hashes = training_hashes(trained)
    assert [hashes[name].dtype for name in sorted(hashes)] == [torch.int64] * 2
    assert all(torch.equal(loaded[name], hashes[name]) for name in hashes)
    check_overlap(loaded, trained)
    with pytest.raises(OverlapError):
        check_overlap(loaded, with_ids(make("b"), trained.table.frame["id"].tolist()[::-1]))


def test_known_content_hashes_replace_reading_the_files(make, tmp_path):
    data = make("a")
    expected = training_hashes(data)["train_image_hashes"]
    table = data.table
    frame = table.frame.assign(content=content_column(table.root, table.frame["path"]))
    known = Made(FaceTable(frame, Path("/gone"), "a", "rule", table.race_classes, table.report))
    assert torch.equal(training_hashes(known)["train_image_hashes"], expected)
    assert len(set(expected.tolist())) == 8


@pytest.fixture
def held_back(make, monkeypatch):
    """A DataModule, and the event that its images are not hashed before."""
    hashed, released = hashing.image_hashes, threading.Event()
    monkeypatch.setattr(hashing, "image_hashes", lambda part: released.wait(60) and hashed(part))
    yield make("a"), released
    released.set()


def test_images_are_hashed_once_and_ids_do_not_wait_for_them(held_back):
    data, released = held_back
    early = training_hashes(data, wait=False)
    assert early["train_image_hashes"] is None
    released.set()
    hashes = training_hashes(data)
    assert training_hashes(data, wait=False)["train_image_hashes"] is hashes["train_image_hashes"]
    assert len(hashes["train_image_hashes"]) == 8
    assert torch.equal(early["train_id_hashes"], hashes["train_id_hashes"])


def test_a_checkpoint_saved_before_the_images_were_hashed_knows_ids_and_no_copies(make, held_back, caplog):
    data, _ = held_back
    trained = data.provenance() | training_hashes(data, wait=False)
    with pytest.raises(OverlapError, match="1 of 4 test faces were trained on"):
        check_overlap(trained, with_ids(make("b"), [f"b/{row}" for row in range(11)] + ["a/00001.jpg"]))
    with pytest.raises(OverlapError, match="it was saved before these were hashed"):
        check_overlap(trained | {"fingerprints": {}}, make("c"))
    with caplog.at_level(logging.WARNING):
        check_overlap(trained, data)
        check_overlap(trained | {"fingerprints": {}}, make("d"), force=True)
    assert ["were hashed" in entry.message for entry in caplog.records] == [True, True]


EXIT = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
import pandas as pd
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.training_hashes import hash_in_background
from mtmsa_lightning.data import release_files as files
folder = Path(sys.argv[1])
(folder / "a.jpg").write_bytes(b"")
known = files._hash_file
files._hash_file = lambda path: (os.read(0, 1), known(path))[1]  # a byte of the parent's for each file
columns = dict.fromkeys(("age_low", "age_high", "gender", "race"), 0)
table = pd.DataFrame({"path": ["a.jpg"] * 2000, "id": "", **columns})
part = FaceDataset(table, folder, None)
hash_in_background(SimpleNamespace(hashing=None, train_dataset=part, val_dataset=part))
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_process_ends_without_hashing_the_rest(warm_python, tmp_path):
    """The parent lets a few hundred of 4,000 files be read."""
    command = [warm_python, "-c", EXIT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"done\n"
        process.stdin.write(bytes(600))
        process.stdin.flush()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("known", [False, True])
def test_unreadable_files_have_no_hash_and_overlap_with_nothing(make, caplog, known):
    data = make("a")
    table = data.table
    for row in (1, 6, 9):
        (table.root / f"{row:05d}.jpg").unlink()
    if known:
        frame = table.frame.assign(content=content_column(table.root, table.frame["path"]))
        data = Made(FaceTable(frame, table.root, "a", "rule", table.race_classes, table.report))
    hashes = training_hashes(data)
    assert (len(hashes["train_id_hashes"]), len(hashes["train_image_hashes"])) == (8, 6)
    with caplog.at_level(logging.WARNING):
        check_overlap(record(data) | {"fingerprints": {}}, data)
    assert not caplog.records


@pytest.mark.parametrize(
    ("trained", "used", "said"),
    [
        (None, None, ""),
        (0.25, 0.25, ""),
        (0.25, 0.4, "--margin 0.25`, but"),
        (0.25, None, "holds images that were not prepared"),
        (None, 0.4, "trained on images that were not prepared, but"),
    ],
)
def test_faces_cropped_otherwise_than_in_training_are_told(make, caplog, trained, used, said):
    made = {
        0.25: {"margin": 0.25, "detector": {"name": "a"}},
        0.4: {"margin": 0.4, "detector": {"name": "a"}},
    }
    data = make("a")
    data.root = data.table.root
    if used is not None:
        description = {
            "format_version": 1,
            "dataset": "made",
            "label_rule": "",
            "race_classes": [],
            "table": "",
        }
        (data.root / "dataset.json").write_text(json.dumps(description | {"crop": made[used]}))
    preparation = None if trained is None else {"crop": made[trained], "counts": {"faces": 12}}
    with caplog.at_level(logging.WARNING):
        warn_preprocessing({"preparation": preparation}, preprocessing_of(data), "it")
        warn_preprocessing({}, preprocessing_of(data), "it")
    assert len(caplog.records) == (said != "")
    assert said in caplog.text


def test_each_difference_of_preprocessing_is_told(caplog):
    trained = {"image_size": 224, "crop": 1.0, "preparation": None, "dataset": "any"}
    with caplog.at_level(logging.WARNING):
        warn_preprocessing(trained, trained | {"image_size": 64, "crop": 0.85}, "data/morph")
    size, crop = (entry.message for entry in caplog.records)
    assert "trained on faces of 224 px (data.image_size), but data/morph holds faces of 64 px" in size
    assert "the central 100 % of its images (data.crop), but data/morph holds the central 85 %" in crop
