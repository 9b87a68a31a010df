"""A run that is killed and continued ends with the weights of one that was not."""

import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import warm_process
from same_training import assert_same_metrics

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.run_json import read_record


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def the_run(root: Path) -> Path:
    (run,) = (root / "tiny").iterdir()
    return run


KILLED = """
import os, signal, sys
from mtmsa_lightning import MTMSA
from mtmsa_lightning.cli.main import main

def dying(self, batch, index):
    if (self.current_epoch, index) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, batch, index)

training_step, MTMSA.training_step = MTMSA.training_step, dying
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_in_mid_epoch_and_continued_equals_uninterrupted(tiny_config, tmp_path, capsys):
    """Dropout, augmentation, optimiser, schedule and averaged weights included: bit for bit."""
    exact = ["--ema", "0.9", "--model.freeze_epochs", "1", "--data.augment_on", "device"]
    fit = ["fit", "--config", str(tiny_config), *exact, "--trainer.default_root_dir"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    main([*fit, str(whole)])

    killed = warm_process.run("-c", KILLED, *fit, broken)
    assert killed.poll() == -signal.SIGKILL, killed.stderr
    run = the_run(broken)
    assert list(run.glob("checkpoints/last.ckpt")), "of the first epoch"
    assert not (run / "predictions").exists()

    capsys.readouterr()
    main([*fit, str(broken), "--ckpt_path", "last"])
    assert f"continuing {run}" in capsys.readouterr().out
    assert the_run(broken) == run, "no second run directory"
    ended = weights(run)
    for name, value in weights(the_run(whole)).items():
        assert torch.equal(value, ended[name]), name
    assert_same_metrics(run, the_run(whole))
    faces, again = (pd.read_parquet(r / "predictions" / "test.parquet") for r in (the_run(whole), run))
    pd.testing.assert_frame_equal(faces, again)


def test_a_run_of_other_settings_is_not_continued_and_the_difference_is_named(fails, trained, tiny_config):
    root = trained.parent.parent
    args = ["fit", "--config", tiny_config, "--trainer.default_root_dir", root, "--ckpt_path", "last"]
    message = fails(*args, "--data.fold", "1", "--model.gender_weight", "0.5")
    assert "data.init_args.fold was 0, is 1" in message
    assert "model.gender_weight was 0.2, is 0.5" in message


def test_a_longer_training_continues_in_the_same_directory(trained, tiny_config, tmp_path):
    import shutil

    shutil.copytree(trained.parent.parent, tmp_path / "runs")
    last = the_run(tmp_path / "runs") / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    (clock,) = [state for state in checkpoint["callbacks"].values() if "fit_seconds" in state]
    clock["fit_seconds"] = 5000.0
    torch.save(checkpoint, last)
    args = ["--config", str(tiny_config), "--trainer.default_root_dir", str(tmp_path / "runs")]
    main(["fit", *args, "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    run = the_run(tmp_path / "runs")
    assert pd.read_csv(run / "metrics.csv")["epoch"].tolist() == [0, 1, 2]
    assert 5000 < read_record(run)["fit_seconds"] < 6000, "the time of both parts"
