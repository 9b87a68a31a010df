import logging
import random

import pytest
import torch

from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint


def test_of_a_folder_of_runs_the_newest_with_a_checkpoint_is_meant(tmp_path, caplog):
    for run in ("2026-01-02", "2026-01-01"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "2026-01-03").mkdir()  # has not come to a checkpoint
    with caplog.at_level(logging.INFO):
        assert checkpoint_file(tmp_path) == tmp_path / "2026-01-02" / "checkpoints" / "best.ckpt"
    assert caplog.messages == [f"using {tmp_path / '2026-01-02'}"]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: file.write_bytes(b""), "not a readable checkpoint: it is empty: give a .ckpt file"),
        (lambda file: file.write_text("faces"), "it is a text: give"),
        (lambda file: file.write_bytes(b"\x89PNG"), "it is no file that torch has written: give"),
        (lambda file: file.write_bytes(b"PK\3\4 and no more"), "it is damaged or cut off: copy it again"),
        (
            lambda file: torch.save({"state": random.Random(0)}, file),
            "objects of other programs, which are not",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint_says_what_it_is(write, said, tmp_path):
    write(tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path / "c.ckpt")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "it is empty: give a .ckpt file, a run directory"),
        (["b.txt", "a.txt"], "it holds a.txt, b.txt: give"),
        (["a", "b", "c", "d", "e", "f"], "it holds a, b, c, d, e, ...: give"),
    ],
)
def test_a_folder_without_a_checkpoint_says_what_it_holds(names, said, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=f"no checkpoint in this folder: {said}"):
        checkpoint_file(tmp_path)


@pytest.mark.parametrize(
    ("record", "files", "said"),
    [
        ("{}", ["last.ckpt"], "not trained to the end; continue it by `mtmsa fit ... --ckpt_path last`"),
        ("{}", [], "not trained to the end; train it again"),
        ('{"checkpoint": "a/best.ckpt"}', [], "it evaluated a/best.ckpt, give that"),
    ],
)
def test_a_run_without_a_checkpoint_says_what_to_do(tmp_path, record, files, said):
    (tmp_path / "run.json").write_text(record)
    (tmp_path / "checkpoints").mkdir()
    for name in files:
        (tmp_path / "checkpoints" / name).touch()
    with pytest.raises(CheckpointError, match=said):
        checkpoint_file(tmp_path)


def test_a_run_that_was_chosen_is_named_once(trained, caplog):
    with caplog.at_level(logging.INFO):
        MTMSA.load(str(trained.parent))
    assert [record.getMessage() for record in caplog.records].count(f"using {trained}") == 1


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    for value in (float("nan"), float("inf")):
        state = {"good": torch.zeros(2), "bad": torch.tensor([1.0, value])}
        torch.save({"hyper_parameters": {}, "state_dict": state}, tmp_path / "broken.ckpt")
        with pytest.raises(CheckpointError, match=r"broken.ckpt: 1 weight tensor \(bad, ...\)"):
            read_checkpoint(tmp_path / "broken.ckpt")
