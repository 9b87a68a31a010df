"""What the verbs of the Trainer do to run directories that are in use, foreign or made in vain."""

import json
import os
import pty
import signal
import sys
import time

import pytest
import wandb
import warm_process
import yaml

from mtmsa_lightning._utils.folders import LOCK, holder, locked
from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.run_json import read_record, update_record
from mtmsa_lightning.runs.status import places_of_run

ENDLESS = ["--trainer.max_epochs=100000", "--trainer.val_check_interval=null"]


def contents(folder):
    """Every file below a folder with its time, without locks."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != LOCK}


def waited_for(happened, seconds=120.0):
    """Wait until something is true and return it."""
    deadline = time.monotonic() + seconds
    while not (result := happened()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return result


# ------------------------------------------------------------------------ in use


@pytest.mark.parametrize("verb", ["fit", "continue", "test", "calibrate", "evaluate", "audit"])
def test_a_folder_that_another_command_writes_to_is_refused(
    verb, fails, trained, tiny_config, morph_root, tmp_path
):
    args, folder = {
        "fit": (["fit", "--config", tiny_config, "--run_dir", tmp_path / "run"], tmp_path / "run"),
        "continue": (["fit", "--config", tiny_config, "--run_dir", trained], trained),
        "test": (["test", "--ckpt_path", trained, "--run_dir", tmp_path / "run"], tmp_path / "run"),
        "calibrate": (["calibrate", "--ckpt_path", trained], trained),
        "evaluate": (["evaluate", "--ckpt_path", trained, "--out", tmp_path / "run"], tmp_path / "run"),
        "audit": (["audit", "--root", morph_root, "--out", tmp_path / "run"], tmp_path / "run"),
    }[verb]  # fmt: skip
    with locked(folder, "mtmsa other"):
        before = contents(folder)
        message = fails(*args)
        assert contents(folder) == before
    assert f"{folder}: another `mtmsa other` (process {os.getpid()} on " in message
    assert "wait for it or stop it" in message


# ------------------------------------------------------------------------ foreign


def test_a_folder_of_runs_does_not_become_a_run(fails, trained, tiny_config):
    before = contents(trained.parent)
    message = fails("fit", "--config", tiny_config, "--run_dir", trained.parent)
    assert "is a folder of runs: choose a new directory" in message
    assert contents(trained.parent) == before


def test_a_test_does_not_replace_the_record_of_the_training(fails, trained):
    before = (trained / "run.json").read_text()
    message = fails("test", "--ckpt_path", trained, "--run_dir", trained)
    assert "holds an earlier run" in message
    assert (trained / "run.json").read_text() == before


def test_a_second_run_of_one_step_of_slurm_does_not_replace_the_first(
    fails, trained, tiny_config, tmp_path, monkeypatch
):
    for name, value in {"JOB_ID": 7, "STEP_ID": 0, "STEP_NUM_TASKS": 2, "PROCID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    run = tmp_path / "tiny" / "slurm-7.0.0"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"seed": 5}')
    message = fails("fit", "--config", tiny_config, "--trainer.default_root_dir", tmp_path)
    assert "holds an earlier run: choose another directory by --run_dir" in message
    assert read_record(run) == {"seed": 5}


# ------------------------------------------------------------------------ in vain


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fit", "--checkpoint.monitor", "val/nonsense"], "checkpoint.monitor val/nonsense"),
        (["fit", "--checkpoint.monitor", "val/nonsense", "--wandb", "offline"], "checkpoint.monitor"),
        (["fit", "--data.root", "/nowhere"], "/nowhere"),
        (["test", "--data.fold", "1", "--ckpt_path"], "trained on"),
        (["evaluate", "--data.fold", "1", "--ckpt_path"], "trained on"),
    ],
)
def test_a_command_that_fails_before_it_has_results_leaves_no_folder(
    args, said, fails, trained, tiny_config, tmp_path
):
    place = ["--config", tiny_config, "--trainer.default_root_dir", tmp_path / "runs"]
    out = ["--out", tmp_path / "report"] if args[0] == "evaluate" else []
    before = contents(trained)
    assert said in fails(*args, *([trained] if args[-1] == "--ckpt_path" else []), *place, *out)
    assert list(tmp_path.iterdir()) == []
    assert contents(trained) == before
    assert wandb.run is None, "no later run joins it"


# ------------------------------------------------------------------------ abandoned


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_runs_of_a_crossval_end_with_it(number, tiny_config, tmp_path):
    """They save before; and a second crossval of the name is refused while the first one goes on."""
    args = [
        "crossval",
        "--config",
        tiny_config,
        "--folds",
        "0",
        "--trainer.default_root_dir",
        tmp_path,
        *ENDLESS,
    ]
    first = warm_process.WarmProcess("-m", "mtmsa_lightning", *args)
    try:
        fold = tmp_path / "tiny" / "fold0-seed0"
        assert waited_for(lambda: list(fold.glob("*/checkpoints/last.ckpt")))
        (run,) = fold.iterdir()
        if number == signal.SIGKILL:
            again = warm_process.run("-m", "mtmsa_lightning", *args)
            assert (again.poll(), "another `mtmsa crossval`" in again.stderr) == (2, True)
        begun = (run / "metrics.csv").stat().st_mtime_ns
        assert waited_for(lambda: (run / "metrics.csv").stat().st_mtime_ns > begun), "it goes on"
    finally:
        first.send_signal(number)
        first.wait(60)
    assert waited_for(lambda: holder(run) is None, 60), "the orphan has not ended"
    assert read_record(run)["failed"].startswith("Preempted: saved after")
    assert holder(tmp_path / "tiny" / "crossval") is None


@pytest.mark.slow
def test_a_fit_saves_when_its_terminal_is_closed(tiny_config, tmp_path):
    child, terminal = pty.fork()
    if child == 0:
        fit = ["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), *ENDLESS]
        os.execv(sys.executable, [sys.executable, "-m", "mtmsa_lightning", *fit])
    try:
        os.set_blocking(terminal, False)
        assert waited_for((tmp_path / "run" / "checkpoints" / "last.ckpt").exists)
        os.close(terminal)
        ended = waited_for(lambda: os.waitpid(child, os.WNOHANG)[1], 60)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    assert os.waitstatus_to_exitcode(ended) == 75
    assert read_record(tmp_path / "run")["failed"].startswith("Preempted: saved after")


def test_a_continued_run_has_no_trace_of_the_lock(trained, tiny_config, tmp_path):
    """The lock that an ended process leaves neither blocks a run nor counts as one of its files."""
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).write_text("`mtmsa fit` (process 1 on nowhere)")
    main(["fit", "--config", str(tiny_config), "--run_dir", str(run), "--trainer.max_epochs=1"])
    main(["fit", "--config", str(tiny_config), "--run_dir", str(run)])
    assert json.loads((run / "run.json").read_text())["epochs"] == 2


def test_a_run_on_a_relative_root_is_used_from_another_folder(
    tiny_config, morph_root, tmp_path, monkeypatch, undrawn
):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(morph_root.parent)
    fit = ["fit", "--config", str(tiny_config), "--data.root", "morph", "--trainer.max_epochs=1"]
    main([*fit, "--run_dir", str(run), "--data.calibration_fraction=0.2"])
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["root"] == "morph"
    monkeypatch.chdir(elsewhere)
    main(["test", "--ckpt_path", str(run), "--run_dir", "again"])
    assert to_json(read_record(elsewhere / "again")["test"]) == to_json(read_record(run)["test"])
    main(["calibrate", "--ckpt_path", str(run)])
    main(["evaluate", "--ckpt_path", str(run), "--faces", "false"])
    assert [path.name for path in run.glob("evaluation*")] == ["evaluation"], "the data are the run's own"


def test_what_is_said_of_the_data_counts_more_than_where_they_were(trained, tmp_path, monkeypatch):
    update_record(tmp_path, {"places": {"root": str(trained), "split_file": str(tmp_path / "gone.csv")}})
    (tmp_path / "config.yaml").write_text("data: {init_args: {root: data/morph}}")
    assert places_of_run(tmp_path, []) == [f"--data.root={trained}"]
    for args in (["--data.root", "x"], ["--data.init_args.root=x"], ["--data", "Adience"]):
        assert places_of_run(tmp_path, args) == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "morph").mkdir(parents=True)
    assert places_of_run(tmp_path, []) == [], "they are here as well"
