"""`mtmsa sweep` with processes that write metrics instead of training."""

import sys

import pandas as pd
import pytest
import yaml

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.studies import sweep as module
from mtmsa_lightning.studies.jobs import Job
from mtmsa_lightning.studies.sweep import read_sweep

pytest.importorskip("optuna", reason="needs the extra sweep")

STUB = """
import pathlib, sys
run, value, fails = sys.argv[1:]
pathlib.Path(run).mkdir(exist_ok=True)
pathlib.Path(run, "metrics.csv").write_text(f"epoch,val/age_mae\\n0,99\\n1,{value}\\n2,{float(value) + 1}\\n")
sys.exit(int(fails))
"""

FAILING = 0.9
"""The weight with which a training fails."""


@pytest.fixture
def trainings(monkeypatch):
    """Replace trainings: the age MAE is the distance of the weight of gender from 0.3."""
    made = []
    original = module._job

    def job(sweep, shared, folder, trial):
        real = original(sweep, shared, folder, trial)
        made.append((trial.params, real.command))
        weight = float(trial.params.get("model.gender_weight", 1))
        value, fails = abs(weight - 0.3), weight == FAILING
        command = (sys.executable, "-ISc", STUB, str(folder / real.name), str(value), str(int(fails)))
        return Job(real.name, command, real.log, real.variables)

    monkeypatch.setattr(module, "_job", job)
    return made


def sweep_file(tmp_path, config, method, parameters):
    content = {
        "program": "mtmsa", "method": method, "metric": {"name": "val/age_mae", "goal": "minimize"},
        "command": ["${env}", "mtmsa", "fit", "--config", str(config), "${args}"], "parameters": parameters,
    }  # fmt: skip
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def sweep(file, tmp_path, *args):
    main(["sweep", str(file), "--trainer.default_root_dir", str(tmp_path), *map(str, args)])
    folder = tmp_path / "sweeps" / "mine"
    return pd.read_csv(folder / "table.csv"), yaml.safe_load((folder / "best.yaml").read_text())


def test_a_grid_is_trained_once_and_the_best_settings_are_a_config(trainings, tiny_config, tmp_path):
    parameters = {
        "model.gender_weight": {"values": [0.1, 0.25, FAILING]}, "model.msa.rates": {"values": [[1], [1, 2]]},
        "test_after_fit": {"value": False},
    }  # fmt: skip
    file = sweep_file(tmp_path, tiny_config, "grid", parameters)
    table, best = sweep(file, tmp_path, "--parallel", 4)
    assert len(trainings) == len(table) == 6
    assert best["model"]["gender_weight"] == 0.25
    assert best["model"]["msa"]["rates"] in ([1], [1, 2])
    assert table["val/age_mae"].iloc[0] == pytest.approx(0.05)
    assert table["state"].tolist() == ["COMPLETE"] * 4 + ["FAIL"] * 2
    params, command = trainings[0]
    assert f"--model.gender_weight={params['model.gender_weight']}" in command
    assert "--test_after_fit=false" in command
    assert f"--run_dir={tmp_path / 'sweeps/mine/trial-000'}" in command
    sweep(file, tmp_path)
    assert len(trainings) == 6


def test_more_trials_are_added_and_interrupted_ones_continued(trainings, tiny_config, tmp_path, monkeypatch):
    weight = {"distribution": "log_uniform_values", "min": 0.01, "max": 2.0}
    file = sweep_file(tmp_path, tiny_config, "bayes", {"model.gender_weight": weight})

    def interrupted(file, sweep):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_best_value", interrupted)
        with pytest.raises(SystemExit):
            sweep(file, tmp_path, "--trials", 3)
    table, best = sweep(file, tmp_path, "--trials", 3)
    assert trainings[0][0] == trainings[1][0]
    assert len(table) == 3
    assert 0.01 <= best["model"]["gender_weight"] <= 2
    assert len(sweep(file, tmp_path, "--trials", 4)[0]) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "guess"}, "method: one of grid, random, bayes"),
        ({"parameters": {"ema": {"min": 0.1, "max": 0.9}}}, "parameters.ema: a grid needs `values`"),
        (
            {"method": "bayes", "parameters": {"ema": {"min": 0.9}}},
            "parameters.ema: give value, values, or min",
        ),
        ({"metric": {"name": "val/age_mea"}}, "metric.name val/age_mea: is none of val/"),
        ({"parameters": {"modl.ema": {"values": [1]}}}, "modl"),
        ({"command": ["python", "train.py"]}, "not a sweep of `mtmsa fit`"),
    ],
)
def test_a_mistake_is_told_before_anything_trains(fails, trainings, tiny_config, tmp_path, change, said):
    file = sweep_file(tmp_path, tiny_config, "grid", {"ema": {"values": [0.9]}})
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    assert said in fails("sweep", file, "--trainer.default_root_dir", tmp_path / "runs")
    assert trainings == []
    assert not (tmp_path / "runs").exists()


def test_shipped_sweeps_are_read_by_name():
    sweep = read_sweep("optimiser")
    assert (sweep.method, sweep.metric, sweep.minimize) == ("bayes", "val/age_mae", True)
    assert sweep.ranges == {"model.optimizer.init_args.lr": ("log_uniform_values", 5e-5, 2e-3)}
    assert sweep.fixed == {"test_after_fit": False, "name": "sweep_optimiser"}
    assert len(read_sweep("msa").grid()) == 27
