"""A run that is told to stop by a signal, and is started again, ends as one that was left alone."""

import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from same_training import assert_same_metrics, assert_same_state

from mtmsa_lightning._utils.signals import STOP_SIGNALS
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data import training_hashes
from mtmsa_lightning.data.dataloader import start_worker
from mtmsa_lightning.errors import CheckpointError, Preempted
from mtmsa_lightning.metrics import AgeMAE, ClassAccuracy
from mtmsa_lightning.metrics.epoch_sums import gather_sums, restore_sums
from mtmsa_lightning.models.distributions import GaussianAge
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.settings.configs import SHIPPED
from mtmsa_lightning.training.callbacks.preemption import Preemption, _something_is_due
from mtmsa_lightning.training.lightning_cli import TrainingCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command

TEMPLATE = SHIPPED[1] / "slurm" / "train.sbatch"
EXACT = (
    "--trainer.max_epochs", "2", "--ema", "0.9", "--model.freeze_epochs", "1", "--model.weighting", "learned",
    "--data.num_workers", "1", "--data.augment_on", "device",
)  # fmt: skip
"""Dropout, augmentation and shuffling are on in any case."""


@pytest.fixture
def signal_at(monkeypatch):
    """Return what arranges for a signal to this process in a training or test step."""

    def arrange(number: int, batch: int, step: str = "training_step") -> None:
        original, seen = getattr(MTMSA, step), []

        def signalled(model, *args):
            seen.append(None)
            if len(seen) == batch:
                os.kill(os.getpid(), number)
            return original(model, *args)

        monkeypatch.setattr(MTMSA, step, signalled)

    return arrange


def stops(*args: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, args)])
    assert stopped.value.code == 75


def checkpoint(run: Path, name: str = "last") -> dict:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_equal_runs(first: Path, second: Path) -> None:
    """Weights, averaged weights, optimiser, schedule and metrics of training, bit for bit.

    Predictions as float32 has them: convolutions round by where in memory the weights lie.
    """
    kept = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    for name in ("last", "best"):
        assert_same_state(checkpoint(second, name), checkpoint(first, name), kept)
    assert_same_metrics(second, first)
    faces, anew = (pd.read_parquet(run / "predictions" / "test.parquet") for run in (first, second))
    pd.testing.assert_frame_equal(faces, anew, atol=1e-3)


@pytest.mark.slow
def test_a_run_stopped_by_signals_ends_like_one_left_alone(tiny_config, tmp_path, signal_at, monkeypatch):
    """Ctrl-C within the first epoch of five batches, SIGTERM in the last of it, SIGUSR1 while testing."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit = ("fit", "--config", tiny_config, *EXACT, "--data.val_fraction=0.2", "--run_dir")
    main([*map(str, fit), str(whole)])
    signal_at(signal.SIGINT, 2)
    stops(*fit, broken)
    assert checkpoint(broken)["MORPH"] == {"epoch": 0, "batches": 2}
    assert not (broken / "checkpoints" / "best.ckpt").exists()
    monkeypatch.undo()
    signal_at(signal.SIGTERM, 3)
    stops(*fit, broken)
    assert checkpoint(broken)["MORPH"] == {"epoch": 1, "batches": 0}, "it was validated, too"
    monkeypatch.undo()
    signal_at(signal.SIGUSR1, 1, "test_step")
    stops(*fit, broken)
    assert not (broken / "predictions").exists()
    monkeypatch.undo()
    main([*map(str, fit), str(broken)])
    assert_equal_runs(whole, broken)
    assert len(json.loads((broken / "run.json").read_text())["continued"]) == 3


@pytest.mark.slow
def test_no_checkpoint_waits_for_hashes_and_the_end_of_a_fit_completes_all(
    tiny_config, tmp_path, signal_at, monkeypatch
):
    """The images are not hashed before the last step of the continued run is saved."""
    hashed, ended = training_hashes.image_hashes, threading.Event()
    monkeypatch.setattr(training_hashes, "image_hashes", lambda part: ended.wait(300) and hashed(part))
    run = tmp_path / "run"
    fit = ("fit", "--config", tiny_config, "--trainer.max_epochs=1", "--run_dir", run)
    signal_at(signal.SIGTERM, 2)
    stops(*fit)
    assert checkpoint(run)["provenance"]["train_image_hashes"] is None
    assert len(checkpoint(run)["provenance"]["train_id_hashes"]) == 52
    monkeypatch.setattr(MTMSA, "on_train_end", lambda model: ended.set(), raising=False)
    main([*map(str, fit)])
    for name in ("last", "best"):
        assert len(checkpoint(run, name)["provenance"]["train_image_hashes"]) == 52
    assert (run / "predictions" / "test.parquet").is_file()


@pytest.mark.parametrize(("verb", "step"), [("test", "test_step"), ("validate", "validation_step")])
def test_an_evaluation_told_to_stop_says_so_and_exits_to_be_tried_again(
    verb, step, trained, tmp_path, signal_at, capsys
):
    signal_at(signal.SIGTERM, 1, step)
    stops(verb, "--ckpt_path", trained, "--run_dir", tmp_path / "run", "--allow_overlap", "true")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("stopped by")]
    assert told == ["stopped by SIGTERM: the evaluation is incomplete; the same command repeats it"]
    assert not (tmp_path / "run" / "predictions").exists()


def test_a_signal_that_lightning_hears_before_the_first_batch_is_no_success(trained):
    class ToldToStop(TrainingCLI):
        def parse_arguments(self, *_: object) -> None:
            raise SIGTERMException

    with pytest.raises(Preempted) as stop:
        run_trainer_command("test", ["--ckpt_path", str(trained)], ToldToStop)
    assert stop.value.status == 75


def test_loader_workers_let_the_first_signal_of_a_job_pass():
    """They are needed for the step after which a run saves; who ends them asks twice."""
    ready, answer = multiprocessing.get_context("fork").Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_work, args=(answer,), daemon=True)
    worker.start()
    assert ready.recv() == "started"
    for number in STOP_SIGNALS:
        os.kill(worker.pid, number)
    ready.send("still there?")
    assert ready.recv() == "still there?"
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == -signal.SIGTERM


def _work(pipe) -> None:
    start_worker(0)
    pipe.send("started")
    pipe.send(pipe.recv())
    time.sleep(60)


def test_slurm_leaves_signals_and_requeueing_to_us(tiny_config, tmp_path, signal_at, monkeypatch):
    """Lightning would save ``hpc_ckpt_1.ckpt`` in the root of all runs and call scontrol."""
    job = {"JOB_ID": 7, "JOB_NAME": "x", "NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0}
    for name, value in (job | {"NODEID": 0}).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setattr(subprocess, "call", lambda *_: pytest.fail("scontrol"))
    before = signal.getsignal(signal.SIGUSR1)
    signal_at(signal.SIGUSR1, 1)
    root = ("--trainer.default_root_dir", tmp_path, "--trainer.max_epochs", "1")
    stops("fit", "--config", tiny_config, *root, "--run_dir", tmp_path / "run")
    assert [file.name for file in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_directory_with_a_run_of_other_settings_is_refused(fails, trained, tiny_config):
    message = fails("fit", "--config", tiny_config, "--run_dir", trained, "--data.fold", "1")
    assert "data.init_args.fold was 0, is 1" in message
    assert "another --run_dir" in message


@pytest.mark.parametrize(
    ("done", "accumulate", "validate_every", "due"),
    [(3, 1, 5, False), (3, 2, 5, True), (4, 2, 5, False), (5, 1, 5, True), (3, 1, None, False)],
)
def test_a_run_stops_only_where_it_can_go_on_exactly(done, accumulate, validate_every, due):
    trainer = SimpleNamespace(accumulate_grad_batches=accumulate, val_check_batch=validate_every)
    assert _something_is_due(trainer, done) is due


def test_without_a_signal_nothing_stops():
    assert not Preemption(Path("last.ckpt"))._asked_to_stop()


def metric_of(errors: list[float]) -> AgeMAE:
    metric, age = AgeMAE(), torch.zeros(1, dtype=torch.float64)
    for error in errors:
        metric.update(GaussianAge(age + 30 + error, age + 1), age + 30, age + 30)
    return metric


def test_sums_of_metrics_go_on_where_they_were():
    whole, part, rest = metric_of([1, 2, 6]), metric_of([1, 2]), metric_of([])
    restore_sums({"age_mae": rest}, gather_sums({"age_mae": part}), rank=0, ranks=1)
    rest.update(GaussianAge(torch.tensor([36.0]), torch.tensor([1.0])), *torch.full((2, 1), 30.0))
    assert rest.compute() == whole.compute() == 3
    assert rest.update_count == 3


def test_sums_of_another_number_of_processes_are_refused():
    sums = gather_sums({"age_mae": metric_of([1])})
    with pytest.raises(CheckpointError, match="saved within an epoch by 1 process, not 4"):
        restore_sums({"age_mae": AgeMAE()}, sums, rank=0, ranks=4)


def test_sums_of_another_metric_are_refused():
    sums = gather_sums({"gender_acc": AgeMAE()})
    for metrics in ({"gender_acc": ClassAccuracy(2)}, {}):
        with pytest.raises(CheckpointError, match="another gender_acc than this version's"):
            restore_sums(metrics, sums, rank=0, ranks=1)


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (75, True)])
def test_the_slurm_template_requeues_a_run_that_was_stopped_and_no_other(status, requeued, tmp_path):
    """With stand-ins for SLURM's commands and for the training."""
    stubs = {
        "srun": 'exec "$@"',
        "scontrol": f'echo "$@" > {tmp_path}/requeued',
        "mtmsa": f'echo "$@" > {tmp_path}/started; exit {status}',
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "41", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    environment = {**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(TEMPLATE), "--config", "morph.yaml"]
    assert subprocess.run(command, env=environment).returncode == status
    assert (tmp_path / "started").read_text().split() == [
        "fit", "--config", "morph.yaml", "--config", "devices/ddp.yaml", "--trainer.num_nodes", "2",
        "--trainer.devices", "4", "--run_dir", "runs/slurm-41",
    ]  # fmt: skip
    requeue = tmp_path / "requeued"
    assert requeue.exists() is requeued
    assert not requeued or requeue.read_text() == "requeue 41\n"


def test_the_slurm_template_asks_for_a_signal_to_all_processes_and_for_requeueing():
    text = TEMPLATE.read_text()
    assert "#SBATCH --requeue" in text
    assert "#SBATCH --signal=USR1@300" in text
