import logging

import pytest
import torch

from mtmsa_lightning.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.errors import CheckpointError


def test_classes_that_moved_are_read_by_the_name_that_stays(tmp_path):
    heads = {
        "age": {"class_path": "mtmsa_lightning.models.heads.GaussianAgeHead", "init_args": {"beta": 0.5}},
        "gender": {"class_path": "mtmsa_lightning.models.heads.ClassHead", "init_args": {}},
        "race": None,
    }
    torch.save({"hyper_parameters": heads | {"weights": None}, "state_dict": {}}, tmp_path / "old.ckpt")
    read = read_checkpoint(tmp_path / "old.ckpt")["hyper_parameters"]
    assert read["age"] == {"class_path": "mtmsa_lightning.GaussianAgeHead", "init_args": {"beta": 0.5}}
    assert read["gender"]["class_path"] == "mtmsa_lightning.ClassHead"
    assert read["race"] is None


def test_of_a_folder_of_runs_the_newest_with_a_checkpoint_is_meant(tmp_path, caplog):
    for run in ("2026-01-02", "2026-01-01"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "2026-01-03").mkdir()  # has not come to a checkpoint
    with caplog.at_level(logging.INFO):
        assert checkpoint_file(tmp_path) == tmp_path / "2026-01-02" / "checkpoints" / "best.ckpt"
    assert caplog.messages == [f"using {tmp_path / '2026-01-02'}"]


@pytest.mark.parametrize(
    ("record", "files", "said"),
    [
        ("{}", ["last.ckpt"], "not trained to the end; continue it by `mtmsa fit ... --ckpt_path last`"),
        ("{}", [], "not trained to the end; train it anew"),
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
