import json

import pytest
import yaml

from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs import (
    differences,
    open_run,
    read_record,
    resumable_run,
    say_unfinished,
    unfinished,
    update_record,
    write_text,
)

CONFIG = {
    "seed_everything": 0,
    "model": {"msa": {"rates": [1, 2, 5]}},
    "data": {"class_path": "MORPH", "init_args": {"fold": 0, "root": "/a", "num_workers": 2}},
    "trainer": {"max_epochs": 5},
}


def a_run(root, time, config, finished_an_epoch=True):
    run = root / "morph" / time
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    if finished_an_epoch:
        (run / "checkpoints" / "last.ckpt").touch()
    return run


def changed(**init_args):
    data = CONFIG["data"] | {"init_args": CONFIG["data"]["init_args"] | init_args}
    return CONFIG | {"data": data}


def test_the_newest_run_of_the_same_settings_is_continued(tmp_path):
    a_run(tmp_path, "2026-01-01", CONFIG)
    wanted = a_run(tmp_path, "2026-01-02", CONFIG)
    a_run(tmp_path, "2026-01-03", changed(fold=1))
    a_run(tmp_path, "2026-01-04", CONFIG, finished_an_epoch=False)
    assert resumable_run(tmp_path, "morph", CONFIG) == wanted


def test_what_does_not_change_the_learning_may_differ(tmp_path):
    run = a_run(tmp_path, "2026-01-01", CONFIG)
    longer = changed(root="/b", num_workers=8) | {"trainer": {"max_epochs": 9}}
    assert resumable_run(tmp_path, "morph", longer) == run


def test_other_settings_are_refused_and_named(tmp_path):
    a_run(tmp_path, "2026-01-01", CONFIG)
    with pytest.raises(CheckpointError, match=r"data.init_args.fold was 0, is 3"):
        resumable_run(tmp_path, "morph", changed(fold=3))
    with pytest.raises(CheckpointError, match="no run"):
        resumable_run(tmp_path, "adience", CONFIG)


def test_differences_names_added_and_removed_keys():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 3}}) == [
        "a.c was 2, is None",
        "a.d was None, is 3",
    ]


def test_processes_of_one_launch_share_a_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    first = open_run(tmp_path, "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert open_run(tmp_path, "x") == first
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.delenv("MTMSA_RUN_DIR")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert open_run(tmp_path, "x") == tmp_path / "x" / "slurm-77.0.0"


def test_torchrun_workers_agree_through_its_store(tmp_path, monkeypatch):
    from torch.distributed import TCPStore

    server = TCPStore("127.0.0.1", 0, is_master=True)
    settings = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MTMSA_RUN_DIR", raising=False)
    runs = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        runs.append(open_run(tmp_path, "x"))
        monkeypatch.delenv("MTMSA_RUN_DIR")
    assert runs[0] == runs[1]


def test_the_record_is_merged_and_always_valid_json(tmp_path):
    update_record(tmp_path, {"a": 1, "b": 2})
    update_record(tmp_path, {"b": 3})
    assert read_record(tmp_path) == {"a": 1, "b": 3}
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run.json: damaged"):
        read_record(tmp_path)


def test_a_text_is_replaced_at_once(tmp_path):
    write_text(tmp_path / "sub" / "x.json", json.dumps([1]))
    write_text(tmp_path / "sub" / "x.json", json.dumps([2]))
    assert [file.name for file in (tmp_path / "sub").iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "sub" / "x.json").read_text()) == [2]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"epochs": 5}, None),
        ({"epochs": 5, "failed": "KeyboardInterrupt: "}, None),
        (
            {"failed": "Preempted: saved after epoch 2"},
            "training has not ended: saved after epoch 2; 5 epochs were planned",
        ),
        ({"seed": 0}, "training has not ended: it was killed, or goes on still; 5 epochs were planned"),
    ],
)
def test_a_training_that_has_not_ended_is_told(record, said, tmp_path, caplog):
    run = a_run(tmp_path, "2026-01-01", CONFIG)
    update_record(run, record)
    assert unfinished(run) == said
    say_unfinished(run / "checkpoints" / "best.ckpt")
    assert [told.endswith(str(said)) for told in caplog.messages] == [True] * (said is not None)


def test_a_checkpoint_that_lies_in_no_run_is_not_called_unfinished(tmp_path, caplog):
    say_unfinished(tmp_path / "best.ckpt")
    assert caplog.messages == []
