import json
import os
from contextlib import nullcontext
from datetime import datetime
from types import SimpleNamespace

import pytest
import yaml

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.launch import is_first_process, launch_variables_removed
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs import directory as runs
from mtmsa_lightning.runs.directory import check_run_dir, open_run, resumable_run, runs_with
from mtmsa_lightning.runs.recorded_settings import training_differences, training_settings
from mtmsa_lightning.runs.run_json import read_record, update_record
from mtmsa_lightning.runs.status import unfinished, warn_unfinished

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


LAUNCHERS = ("LOCAL_RANK", "RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "MTMSA_RUN_DIR")
ALLOCATION = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
"""What a script of sbatch sees."""
STEP = ALLOCATION | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
"""What a task of srun sees."""


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Open a run as a process that a launcher has started with some variables."""
    for name in [name for name in os.environ if name.startswith("SLURM_")] + [*LAUNCHERS]:
        monkeypatch.delenv(name, raising=False)

    def opened(**variables):
        with monkeypatch.context() as process, launch_variables_removed():
            for name, value in variables.items():
                process.setenv(name, value)
            return open_run(tmp_path, "x")[0]

    return opened


def test_processes_that_lightning_launches_share_a_directory(launch):
    first = launch()
    assert launch(LOCAL_RANK="1", MTMSA_RUN_DIR=str(first)) == first


def test_a_second_run_of_one_process_has_a_directory_of_its_own(tmp_path, monkeypatch, launch):
    """Lightning leaves LOCAL_RANK behind in the process that has launched the others."""
    with launch_variables_removed():
        first = open_run(tmp_path, "x")[0]
        os.environ["LOCAL_RANK"] = "0"
    assert open_run(tmp_path, "x")[0] != first


def test_tasks_of_a_step_share_a_directory_and_nothing_else_does(launch, monkeypatch, tmp_path):
    monkeypatch.delenv("MTMSA_RUN_DIR", raising=False)
    first = launch(**STEP)
    assert {launch(**STEP | {"SLURM_PROCID": rank}) for rank in "0123"} == {first}
    others = {
        "a later step": STEP | {"SLURM_STEP_ID": "1"},
        "requeued": STEP | {"SLURM_RESTART_COUNT": "1"},
        "another task of an array": STEP | {"SLURM_JOB_ID": "78"},
        "a step of one task": STEP | {"SLURM_STEP_NUM_TASKS": "1"},
        "a script of sbatch": ALLOCATION,
        "the same script, later": ALLOCATION,
        "the batch step": ALLOCATION | {"SLURM_STEP_ID": str(0xFFFFFFFB)},
        "a shell of salloc": ALLOCATION | {"SLURM_STEP_ID": str(0xFFFFFFFA)},
        "no SLURM": {},
    }
    assert len({first, *(launch(**variables) for variables in others.values())}) == 1 + len(others)


def test_jobs_that_begin_at_the_same_moment_have_directories_of_their_own(tmp_path, launch, monkeypatch):
    moments = iter([datetime(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, microsecond=1000)])
    monkeypatch.setattr(runs, "datetime", SimpleNamespace(now=lambda: next(moments)))
    assert [launch().name for _ in range(2)] == ["2026-01-01_00-00-00-000", "2026-01-01_00-00-00-001"]


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"} | STEP, True),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        (STEP, True),
        (STEP | {"SLURM_PROCID": "2"}, False),
        (ALLOCATION | {"SLURM_PROCID": "2", "SLURM_STEP_ID": "5", "SLURM_STEP_NUM_TASKS": "1"}, True),
    ],
)
def test_one_process_of_a_launch_is_the_first(variables, first, launch, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_torchrun_workers_agree_through_its_store(launch):
    from torch.distributed import TCPStore

    server = TCPStore("127.0.0.1", 0, is_master=True)
    settings = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port)}
    assert launch(**settings, RANK="0") == launch(**settings, RANK="1")


def test_the_newest_run_is_the_one_that_was_started_last_whatever_it_is_called(tmp_path):
    starts = {
        "slurm-9999.0.0": {"started": "2026-03-01T00:00:00"},
        "slurm-10000.0.0": {"started": "2026-03-02T00:00:00"},
        "2026-03-03_00-00-00-000": {"started": "2026-03-03T00:00:00"},
        "mine": {"started": "2026-01-01T00:00:00", "continued": ["2026-03-04T00:00:00"]},
        "without-a-start": {},
    }
    for name, record in starts.items():
        update_record(a_run(tmp_path, name, CONFIG), record)
    damaged = a_run(tmp_path, "damaged", CONFIG)
    (damaged / "run.json").write_text("{")
    order = [
        "mine",
        "2026-03-03_00-00-00-000",
        "slurm-10000.0.0",
        "slurm-9999.0.0",
        "without-a-start",
        "damaged",
    ]
    assert [run.name for run in runs_with("checkpoints/last.ckpt", tmp_path / "morph")] == order
    assert resumable_run(tmp_path, "morph", CONFIG).name == "mine"


@pytest.mark.parametrize(
    ("files", "verb", "fresh", "message"),
    [
        ([], "fit", False, None),
        ([".lock"], "fit", True, None),
        (["run.json", "config.yaml"], "fit", False, None),
        (["config.yaml", "run.log"], "fit", False, None),
        (["run.json", "predictions/test.parquet"], "test", False, None),
        (["run.json"], "fit", True, "holds an earlier run"),
        (
            ["run.json", "checkpoints/best.ckpt"],
            "fit",
            False,
            "which has no checkpoints/last.ckpt",
        ),
        (["run.json", "checkpoints/last.ckpt"], "test", False, "holds an earlier run"),
        (["run.json", "predictions/test.parquet"], "fit", False, "holds an earlier run"),
        (["2026-01-01/run.json"], "fit", False, "is a folder of runs"),
        (["thesis.tex"], "fit", False, "holds other files"),
        (["config.yaml", "thesis.tex"], "test", False, "holds other files"),
    ],
)
def test_a_run_directory_that_holds_anything_else_is_refused(tmp_path, files, verb, fresh, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=message) if message else nullcontext():
        check_run_dir(tmp_path, verb, fresh)


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
    warn_unfinished(run / "checkpoints" / "best.ckpt")
    assert [told.endswith(str(said)) for told in caplog.messages] == [True] * (said is not None)


def test_a_checkpoint_that_lies_in_no_run_is_not_called_unfinished(tmp_path, caplog):
    warn_unfinished(tmp_path / "best.ckpt")
    assert caplog.messages == []


def test_a_run_may_be_continued_on_other_devices_but_a_finished_one_is_another():
    one, four = (
        {"trainer": {"devices": devices, "strategy": way}} for devices, way in ((1, "auto"), (4, "ddp"))
    )
    assert training_settings(one) == training_settings(four)
    assert training_differences(one, four) == ["trainer.devices was 1, is 4"]
