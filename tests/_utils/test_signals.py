"""A signal ends every command in order: one line, no traceback, a status that says so."""

import importlib
import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from warm_process import WarmProcess, run

from mtmsa_lightning._utils.signals import STOP_SIGNALS, Stopped, raised_on_signals
from mtmsa_lightning.cli.main import CONTINUED, OWN_COMMANDS, main
from mtmsa_lightning.settings.configs import without_options
from mtmsa_lightning.training.callbacks.preemption import Preemption
from mtmsa_lightning.training.checkpoint_settings import continuing

TWICE = """
import os, signal, time
from mtmsa_lightning.training.callbacks.preemption import Preemption
from mtmsa_lightning._utils.signals import Stopped, raised_on_signals

def interrupt_twice():
    for _ in range(2):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Stopped:
            pass
    time.sleep(60)
"""


@pytest.mark.parametrize("command", OWN_COMMANDS)
def test_every_command_ends_in_one_line(command, monkeypatch, capsys):
    module = importlib.import_module(f"mtmsa_lightning.cli.commands.{command}")
    for number in STOP_SIGNALS:
        monkeypatch.setattr(module, "main", lambda _, number=number: os.kill(os.getpid(), number))
        before = signal.getsignal(number)
        with pytest.raises(SystemExit) as ended:
            main([command])
        assert ended.value.code == 128 + number
        then = ": the same command continues" if command in CONTINUED else ""
        assert capsys.readouterr().err == f"stopped by {number.name}{then}\n"
        assert signal.getsignal(number) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fit_that_is_stopped_before_its_first_step_says_so_in_one_line(number, tiny_config, tmp_path):
    fit = WarmProcess("-m", "mtmsa_lightning", "fit", "--config", tiny_config, "--run_dir", tmp_path / "run")
    assert fit.waited_for(lambda: fit.stdout.startswith("config:"))
    fit.send_signal(number)
    assert fit.wait() == 75
    said = fit.stdout + fit.stderr
    assert said.count("the same command starts again") == 1
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_crossval_that_is_stopped_ends_as_every_command_does(tiny_config, tmp_path):
    options = ["--folds", "0", "--trainer.default_root_dir", tmp_path, "--trainer.max_epochs", "100000"]
    crossval = WarmProcess("-m", "mtmsa_lightning", "crossval", "--config", tiny_config, *options)
    assert crossval.waited_for(lambda: "epoch 1/100000" in crossval.stdout)
    crossval.send_signal(signal.SIGTERM)
    assert crossval.wait() == 128 + signal.SIGTERM
    assert crossval.stderr.splitlines()[-1] == "stopped by SIGTERM: the same command continues"
    assert "Traceback" not in crossval.stderr
    assert list(tmp_path.glob("*/fold0-seed*/*/checkpoints/last.ckpt")), "its run has saved"


@pytest.mark.parametrize(
    "listening",
    [
        "with raised_on_signals(): interrupt_twice()",
        "signal.signal(signal.SIGINT, Preemption(None)._remember); interrupt_twice()",
    ],
)
def test_a_second_interrupt_ends_at_once_without_a_traceback(listening):
    ended = run("-c", TWICE + listening)
    assert (ended.poll(), ended.stderr) == (-signal.SIGINT, "")


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised_on_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_child_ends_by_the_signal_itself():
    with raised_on_signals():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_the_command_that_continues_names_the_run_and_nothing_twice(monkeypatch):
    for name in ("RANK", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    run, given = (
        Path("/runs/x"),
        ["--config", "my faces.yaml", "--ckpt_path=last", "--run_dir", "old", "--ema", "0.9"],
    )
    line = continuing(run, "fit", given)
    command = shlex.split(line)
    for name, launcher in (("RANK", "torchrun"), ("SLURM_STEP_ID", "srun")):
        monkeypatch.setenv(name, "0")
        assert continuing(run, "fit", given) == f"the same launcher ({launcher}) with: {line}"
        monkeypatch.delenv(name)
    of_run = shlex.split(continuing(run, "fit", ["--ckpt_path", "/runs/w", "--ema", "0.9"]))
    assert of_run == ["mtmsa", "fit", "--config=/runs/x/config.yaml", "--ema", "0.9", "--run_dir", "/runs/x"]
    loaded = shlex.split(continuing(run, "fit", ["--ckpt_path", "/runs/w", "--data.num_workers=4"]))
    assert loaded[2:4] == ["--config=/runs/x/config.yaml", "--data.num_workers=4"], "which names no data"
    assert command == ["mtmsa", "fit", "--config", "my faces.yaml", "--ema", "0.9", "--run_dir", "/runs/x"]
    assert without_options(["--ckpt_path_too", "x", "ckpt_path"], ["ckpt_path"])[2] == "ckpt_path"


def test_stopping_is_no_error():
    assert not issubclass(Stopped, Exception | KeyboardInterrupt)
    assert "trainer.fit(..., ckpt_path='last.ckpt')" in Preemption(Path("last.ckpt")).command
