"""`mtmsa crossval` with children that write run directories instead of training; one test trains."""

import json
import shlex
import statistics
import sys
from pathlib import Path

import fake_slurm
import numpy as np
import pandas as pd
import pytest
import yaml
from crossval_children import predictions_of

from mtmsa_lightning import MORPH
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.cli.commands.crossval import numbers
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.run_json import read_record, update_record
from mtmsa_lightning.studies.crossval import is_finished


@pytest.fixture
def crossval(tiny_config, tmp_path, children):
    def run(*args):
        line = ["--config", tiny_config, "--trainer.default_root_dir", tmp_path / "runs", *args]
        children.started.clear()
        main(["crossval", *map(str, line)])
        return json.loads((tmp_path / "runs" / "tiny" / "crossval" / "summary.json").read_text())

    return run


def folder(tmp_path) -> Path:
    return tmp_path / "runs" / "tiny" / "crossval"


# ------------------------------------------------------------------------ what it writes


def test_all_folds_of_the_protocol_are_run_and_summarised(crossval, children, tmp_path, morph_root, capsys):
    summary = crossval("--seeds", 0, 1)
    names = [f"fold{fold}-seed{seed}" for seed in (0, 1) for fold in range(5)]
    assert children.started == names
    data = MORPH(root=str(morph_root), image_size=64, crop=1.0, val_fraction=0.2)
    data.setup()
    tables = {(f, s): predictions_of(data, f, s) for f in range(5) for s in (0, 1)}
    mae = {key: (t["age_mean"] - t["label_age_low"]).abs().mean() for key, t in tables.items()}
    of_folds = [(mae[fold, 0] + mae[fold, 1]) / 2 for fold in range(5)]
    of_seeds = [statistics.mean(mae[fold, seed] for fold in range(5)) for seed in (0, 1)]
    metric = summary["metrics"]["age_mae"]
    assert metric["mean"] == pytest.approx(statistics.mean(of_folds))
    for over, values in (("folds", of_folds), ("seeds", of_seeds), ("runs", list(mae.values()))):
        assert metric[f"over_{over}"]["n"] == len(values)
        assert metric[f"over_{over}"]["sd_sample"] == pytest.approx(statistics.stdev(values))
        assert metric[f"over_{over}"]["sd_population"] == pytest.approx(statistics.pstdev(values))

    assert (summary["protocol"], summary["split_seed"]) == ("subject_exclusive", 0)
    assert summary["label_rule"] == data.table.label_rule
    assert summary["runs"][3]["fingerprints"]["test"] == data.split_of(1).fingerprints["test"]
    assert (summary["seeds"], summary["folds"], summary["missing"]) == ([0, 1], [0, 1, 2, 3, 4], [])

    text = (folder(tmp_path) / "summary.md").read_text()
    assert "sample standard deviation (n - 1)" in text
    assert f"| {statistics.mean(of_folds):.2f} ± {statistics.stdev(of_folds):.2f} |" in text
    assert text in capsys.readouterr().out
    tex = (folder(tmp_path) / "summary.tex").read_text()
    assert rf"& {statistics.mean(of_folds):.2f} $\pm$ {statistics.stdev(of_folds):.2f} &" in tex
    assert "protocol subject\\_exclusive, split seed 0" in tex
    rows = pd.read_csv(folder(tmp_path) / "summary.csv").set_index("row")
    assert rows.loc["mean", "age_mae"] == pytest.approx(metric["mean"])
    assert rows.loc["sd_population_over_folds", "age_mae"] == pytest.approx(statistics.pstdev(of_folds))
    assert rows.loc["run", "test_fingerprint"].str.len().eq(64).all()


def test_pooled_predictions_hold_every_face_of_the_protocol_once(crossval, tmp_path, morph_root):
    summary = crossval("--seeds", 0, 1)
    data = MORPH(root=str(morph_root))
    for seed in (0, 1):
        pooled = pd.read_parquet(folder(tmp_path) / "predictions" / f"seed{seed}.parquet")
        assert sorted(pooled["id"]) == sorted(data.table.frame["id"])
        assert set(pooled["fold"]) == set(range(5))
        mae = (pooled["age_mean"] - pooled["label_age_low"]).abs().mean()
        assert summary["pooled"]["metrics"]["age_mae"]["per_seed"][str(seed)] == pytest.approx(mae)
    assert summary["pooled"]["faces"] == len(data.table.frame)
    metric = summary["pooled"]["metrics"]["age_mae"]
    assert metric["value"] == pytest.approx(np.mean(list(metric["per_seed"].values())))
    assert metric["low"] < metric["value"] < metric["high"]


def test_chosen_folds_are_run_and_the_others_said_to_be_missing_from_the_protocol(crossval, children):
    summary = crossval("--folds", "1,3", "--parallel", 2)
    assert children.started == ["fold1-seed0", "fold3-seed0"]
    assert (summary["folds"], summary["folds_of_protocol"]) == ([1, 3], [0, 1, 2, 3, 4])
    assert summary["metrics"]["age_mae"]["over_seeds"] == {"n": 1, "sd_sample": None, "sd_population": 0.0}


# ------------------------------------------------------------------------ again


def test_what_is_complete_is_skipped(crossval, children):
    first = crossval("--folds", "0-1")
    assert crossval("--folds", "0-2")["runs"][:2] == first["runs"]
    assert children.started == ["fold2-seed0"]
    crossval("--folds", "0-2", "--data.num_workers", 0, "--wandb", "offline")
    assert children.started == [], "what computes and where metrics are shown does not matter"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model.gender_weight", 0.5], "model.gender_weight was 0.2, is 0.5"),
        (["--trainer.max_epochs", 3], "trainer.max_epochs was 2, is 3"),
        (["--data.seed", 1], "data.init_args.seed was 0, is 1"),
    ],
)
def test_runs_of_other_settings_are_not_taken_and_it_says_so(crossval, children, capsys, args, said):
    crossval("--folds", 0)
    crossval("--folds", 0, *args)
    assert children.started == ["fold0-seed0"]
    assert f"is not used: {said}" in capsys.readouterr().out


def test_it_ends_with_what_to_type_next(crossval, tmp_path, capsys):
    crossval("--folds", 1, 2)
    said, expected = capsys.readouterr().out, "next, run by run:\n"
    for fold in (1, 2):
        (run,) = (tmp_path / "runs" / "tiny" / f"fold{fold}-seed0").iterdir()
        expected += f"  mtmsa calibrate --ckpt_path {run}\n  mtmsa evaluate --ckpt_path {run}\n"
    assert said.endswith(expected)


def test_a_summary_of_other_runs_is_replaced_with_a_warning_and_one_of_the_same_without(
    crossval, tmp_path, capsys
):
    crossval("--folds", 0)
    (run,) = (tmp_path / "runs" / "tiny" / "fold0-seed0").iterdir()
    crossval("--folds", "0-1")
    assert "replaces" not in capsys.readouterr().out
    crossval("--folds", 1)
    assert f"replaces the summary of tiny with fold0-seed0/{run.name}; --name" in capsys.readouterr().out


def test_runs_on_other_data_are_not_taken(crossval, children, tmp_path, capsys):
    crossval("--folds", 0)
    (run,) = (tmp_path / "runs" / "tiny" / "fold0-seed0").iterdir()
    record = read_record(run)
    record["data"]["fingerprints"]["labels"] = "0" * 64
    update_record(run, record)
    crossval("--folds", 0)
    assert children.started == ["fold0-seed0"]
    assert "fingerprints of labels differ" in capsys.readouterr().out


def test_a_run_from_before_a_setting_existed_is_taken(crossval, children, tmp_path):
    crossval("--folds", 0)
    (run,) = (tmp_path / "runs" / "tiny" / "fold0-seed0").iterdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["data"]["init_args"]["augment"], config["model"]["freeze_epochs"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    crossval("--folds", 0)
    assert children.started == []


@pytest.mark.parametrize("checkpoint", [True, False])
def test_what_was_interrupted_is_continued_where_it_has_a_checkpoint(
    crossval, children, tmp_path, checkpoint
):
    crossval("--folds", 0)
    (run,) = (tmp_path / "runs" / "tiny" / "fold0-seed0").iterdir()
    update_record(run, {"test": {}})
    if checkpoint:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").touch()
    crossval("--folds", 0)
    assert children.started == ["fold0-seed0"]
    command = " ".join(children.commands[-1])
    assert "fit --config" in command
    assert "--name tiny/fold0-seed0 --data.fold 0 --seed_everything 0" in command
    assert command.endswith("--ckpt_path last") == checkpoint


@pytest.mark.parametrize(
    ("changes", "finished"),
    [
        ({}, True),
        ({"continued": ["2026-01-01T00:00:30"]}, True),
        ({"continued": ["2026-01-02T00:00:00"]}, False),
        ({"test": {}}, False),
        ({"epochs": None}, False),
        ({"failed": "KeyboardInterrupt: "}, False),
        ({"seen": {"test": {"faces": 8, "unreadable": 0, "of": 15}}}, False),
        ({"seen": {"test": {"faces": 14, "unreadable": 1, "of": 15}}}, True),
    ],
)
def test_a_run_is_finished_when_it_was_trained_and_then_tested(tmp_path, changes, finished):
    times = {"started": "2026-01-01T00:00:00", "finished": "2026-01-01T00:01:00"}
    update_record(tmp_path, times | {"failed": None, "epochs": 1, "test": {"test/age_mae": 1}} | changes)
    assert not is_finished(tmp_path), "there are no predictions"
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "test.parquet").touch()
    assert is_finished(tmp_path) == finished


# ------------------------------------------------------------------------ failures


def test_a_failing_fold_is_reported_and_the_others_go_on(crossval, children, tmp_path, capsys):
    children.failing.add("fold1-seed0")
    with pytest.raises(SystemExit) as stopped:
        crossval("--folds", "0-2")
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    log = folder(tmp_path) / "logs" / "fold1-seed0.log"
    assert f"[tiny/fold1-seed0] failed with status 1, see {log}" in printed.out
    assert "    ValueError: no luck" in printed.out
    assert "[tiny/fold2-seed0] epoch 1/1" in printed.out
    assert "runs missing: 1 of 3" in printed.err
    summary = json.loads((folder(tmp_path) / "summary.json").read_text())
    assert [(run["fold"], run["seed"]) for run in summary["missing"]] == [(1, 0)]
    assert summary["metrics"]["age_mae"]["over_folds"]["n"] == 2
    assert summary["metrics"]["age_mae"]["over_seeds"] is None
    assert "- fold 1, seed 0: failed with status 1" in (folder(tmp_path) / "summary.md").read_text()

    children.failing.clear()
    assert crossval("--folds", "0-2")["missing"] == []
    assert children.started == ["fold1-seed0"]


def test_without_one_complete_run_nothing_is_written(crossval, children, tmp_path):
    children.failing.add("fold0-seed0")
    with pytest.raises(SystemExit):
        crossval("--folds", 0)
    assert {path.name for path in folder(tmp_path).iterdir()} == {".lock", "logs"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data.fodl", "2"], "did you mean --data.fold?"),
        (["--model.msa.rates", "[2,2,2]"], "reads 7 of the 13 positions"),
        (["--data.fold", "2"], "--data.fold: give --folds"),
        (["--seed_everything=2"], "--seed_everything: give --seeds"),
        (["--ckpt_path", "last"], "interrupted folds are continued anyway"),
        (["--folds", "0-7"], "no fold 5; its folds are [0, 1, 2, 3, 4]"),
        (["--folds", "one"], "give numbers and ranges"),
        (["--slurm", "time=90"], "--slurm: is for --launch slurm"),
        (["--launch", "slurm", "--trainer.num_nodes", "2"], "trains each run on one node"),
        (["--parallel", "0"], "--parallel: must be a whole number from 1"),
        (["--test_after_fit", "false"], "set test_after_fit true"),
        (["--trainer.limit_test_batches", "1"], "leave limit_test_batches out"),
        (["--data.protocol", "train_all"], "no test part"),
        (["--data.protocol", "whole"], "no train part"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--data.root", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_told_before_anything_trains(fails, tiny_config, children, tmp_path, args, said):
    root = ["--trainer.default_root_dir", tmp_path / "runs"]
    assert said in fails("crossval", "--config", tiny_config, *root, *args)
    assert children.started == []
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------ clusters


def test_a_dry_run_prints_commands_and_trains_nothing(crossval, children, tiny_config, tmp_path, capsys):
    crossval("--folds", 1)
    root = ["--trainer.default_root_dir", str(tmp_path / "runs")]
    children.started.clear()
    capsys.readouterr()
    main(["crossval", "--config", str(tiny_config), *root, "--folds", "1,3", "--dry_run", "true"])
    _, _, printed = capsys.readouterr().out.partition("# tiny/fold1-seed0: complete: ")
    assert shlex.split(printed.partition("\n")[2])[0] == sys.executable
    assert children.started == ["fold3-seed0"]
    assert not (tmp_path / "runs/tiny/crossval/logs/fold3-seed0.log").exists()


def test_slurm_trains_the_folds_and_the_summary_is_the_same(crossval, children, tmp_path, monkeypatch):
    monkeypatch.setattr("mtmsa_lightning.studies.slurm.POLL_SECONDS", 0.3)
    queue = fake_slurm.install(tmp_path / "bin", monkeypatch)
    summary = crossval("--folds", "1,3", "--launch", "slurm", "--slurm", "partition=gpu", "--parallel", 1)
    assert [run["fold"] for run in summary["runs"]] == [1, 3]
    script = (queue / "100.sh").read_text()
    for line in ("array=0-1%1", "partition=gpu", "cpus-per-task=8"):
        assert f"#SBATCH --{line}\n" in script
    assert "--gpus" not in script
    for command in children.commands:
        assert Path(command[command.index("--run_dir") + 1]).parent.parent == tmp_path / "runs" / "tiny"


# ------------------------------------------------------------------------ parts


def test_numbers_and_ranges():
    assert numbers(["0-2,4"]) == [0, 1, 2, 4]
    assert numbers(["3", "1", "3"]) == [3, 1]


@pytest.mark.slow
def test_two_folds_trained_in_parallel_and_one_continued(warm_python, tiny_config, tmp_path, capsys, undrawn):
    """Real children: they train, test and are recognised; one that lost its test is continued in place."""
    args = ["--trainer.default_root_dir", str(tmp_path), "--folds", "0", "3", "--parallel", "2"]
    args += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
    main(["crossval", "--config", str(tiny_config), *args])
    runs = sorted(tmp_path.glob("tiny/fold*/*"))
    assert [run.parent.name for run in runs] == ["fold0-seed0", "fold3-seed0"]
    assert "[tiny/fold3-seed0] epoch 1/1" in capsys.readouterr().out
    assert (tmp_path / "tiny" / "crossval" / "report-seed0" / "report.html").is_file()
    summary = json.loads((tmp_path / "tiny" / "crossval" / "summary.json").read_text())
    shown_runs = from_json((tmp_path / "tiny" / "crossval" / "summary.json").read_text())["runs"]
    for run, shown in zip(runs, shown_runs, strict=True):
        for name, value in shown["test"].items():
            recorded = read_record(run)["test"][f"test/{name}"]
            assert recorded == pytest.approx(value, abs=1e-5, nan_ok=True), name

    update_record(runs[0], {"test": {}})
    (runs[0] / "predictions" / "test.parquet").unlink()
    main(["crossval", "--config", str(tiny_config), *args])
    assert sorted(tmp_path.glob("tiny/fold*/*")) == runs
    assert (
        json.loads((tmp_path / "tiny" / "crossval" / "summary.json").read_text())["runs"] == summary["runs"]
    )
    assert "[tiny/fold0-seed0] continued" in capsys.readouterr().out
