import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtmsa_lightning.cli import main as cli
from mtmsa_lightning.cli.main import OWN_COMMANDS, main

SINGLE = 1e-4
"""Differences that another order of float32 sums may make, in years or shares."""

PLAIN = (str, int, float, bool, type(None))


def plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return isinstance(value, PLAIN)


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text(), parse_constant=pytest.fail)


def test_a_fit_leaves_a_run_directory_worth_keeping(trained):
    files = {str(file.relative_to(trained)) for file in trained.rglob("*") if file.is_file()}
    assert files == {
        ".lock", "config.yaml", "run.json", "run.log", "metrics.csv", "checkpoints/best.ckpt",
        "checkpoints/last.ckpt", "predictions/test.parquet",
    }  # fmt: skip
    written = record(trained)
    assert written["versions"]["torch"] == torch.__version__.split("+")[0]
    assert written["data"]["label_rule"]
    assert written["data"]["gender_classes"] == ["male", "female"]
    assert written["data"]["race_classes"] == ["white", "black", "asian", "hispanic", "other"]
    assert written["data"]["crop"] == 1.0
    assert len(written["data"]["fingerprints"]["test"]) == 64
    assert "epoch 2/2" in (trained / "run.log").read_text()


def test_metrics_csv_has_one_row_per_epoch_under_stable_names(trained):
    metrics = pd.read_csv(trained / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1]
    names = ("loss", "age_mae", "age_cs5", "age_nll", "gender_acc", "race_acc")
    for stage in ("train", "val"):
        assert metrics[[f"{stage}/{name}" for name in names]].notna().all(axis=None)
    assert not [name for name in metrics if "group" in name], "MORPH has exact ages, no groups"


def test_the_record_quotes_the_validation_metrics_of_the_best_epoch(trained):
    metrics = pd.read_csv(trained / "metrics.csv")
    best = metrics["val/age_mae"].idxmin()
    assert record(trained)["best_epoch"] == best
    assert record(trained)["val"]["val/age_mae"] == pytest.approx(metrics["val/age_mae"][best])


def test_the_headline_can_be_recomputed_from_the_predictions_with_numpy_alone(trained):
    faces = pd.read_parquet(trained / "predictions" / "test.parquet")
    metrics = record(trained)["test"]
    error = np.abs(faces["age_mean_unclipped"] - faces["label_age_low"])
    assert metrics["test/age_mae"] == pytest.approx(error.mean(), abs=1e-6)
    assert metrics["test/age_cs5"] == pytest.approx((error <= 5).mean())
    z = (faces["label_age_low"] - faces["age_mean_unclipped"]) / faces["age_std"]
    nll = 0.5 * z**2 + np.log(faces["age_std"]) + 0.5 * np.log(2 * np.pi)
    assert metrics["test/age_nll"] == pytest.approx(nll.mean(), abs=1e-6)
    classes = [name.removeprefix("race_") for name in faces if name.startswith("race_")]
    assert classes == record(trained)["data"]["trained_classes"]["race"] == ["white", "black", "other"]
    predicted = np.array(classes)[faces[[f"race_{name}" for name in classes]].to_numpy().argmax(1)]
    known = faces["label_race"] != ""
    accuracy = (predicted == faces["label_race"])[known].mean()
    assert metrics["test/race_acc"] == pytest.approx(accuracy, abs=1e-6)
    np.testing.assert_allclose(
        faces["age_high90_unclipped"] - faces["age_mean_unclipped"], 1.6448536 * faces["age_std"], rtol=1e-6
    )


def test_predictions_hold_the_test_faces_each_once(trained, morph_root):
    from mtmsa_lightning import MORPH

    data = MORPH(root=str(morph_root))
    data.setup()
    faces = pd.read_parquet(trained / "predictions" / "test.parquet")
    assert faces["id"].tolist() == data.test_dataset.table["id"].tolist()


def test_the_checkpoint_holds_plain_values_only(trained):
    checkpoint = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert plain(checkpoint["hyper_parameters"])
    assert checkpoint["hyper_parameters"]["age"]["class_path"] == "mtmsa_lightning.GaussianAgeHead"
    assert checkpoint["provenance"]["fingerprints"] == record(trained)["data"]["fingerprints"]
    assert checkpoint["provenance"]["train_id_hashes"].dtype == torch.int64


def test_the_seed_is_recorded_with_the_metrics_and_in_the_checkpoint(trained):
    assert record(trained)["seed"] == 0
    assert record(trained)["trained_on"]["seed"] == 0, "what the test quotes of the checkpoint"
    assert torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["provenance"]["seed"] == 0
    assert "seeds: split 0, run 0" in (trained / "run.log").read_text()


def test_test_gives_the_metrics_of_the_fit_by_the_runs_own_config(trained, tmp_path):
    checkpoint = trained / "checkpoints" / "best.ckpt"
    main(["test", "--ckpt_path", str(checkpoint), "--trainer.default_root_dir", str(tmp_path)])
    (run,) = (tmp_path / "tiny").iterdir()
    again, first = record(run)["test"], record(trained)["test"]
    assert again.keys() == first.keys()
    for name in first:
        assert again[name] == pytest.approx(first[name], abs=SINGLE), name


def test_validate_gives_the_metrics_of_the_best_epoch(trained, tmp_path, capsys):
    main(["validate", "--ckpt_path", str(trained), "--trainer.default_root_dir", str(tmp_path)])
    (run,) = (tmp_path / "tiny").iterdir()
    assert record(run)["val"]["val/age_mae"] == pytest.approx(
        record(trained)["val"]["val/age_mae"], abs=SINGLE
    )
    assert "age MAE" in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "args"), [("validate", []), ("fit", ["--test_after_fit", "false"])])
def test_faces_cropped_otherwise_than_in_the_checkpoints_training_are_told(
    trained, tmp_path, capsys, verb, args
):
    checkpoint = trained / "checkpoints" / "last.ckpt"
    place = ["--trainer.default_root_dir", str(tmp_path)]
    main([verb, "--ckpt_path", str(checkpoint), "--data.crop", "0.9", *place, *args])
    printed = capsys.readouterr().out
    assert "the checkpoint was trained on the central 100 % of its images (data.crop), but" in printed
    assert printed.count("the checkpoint was trained on") == 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_predict_equals_the_test_predictions_and_needs_no_config(trained, morph_root, tmp_path, suffix):
    out = tmp_path / f"ages{suffix}"
    faces = pd.read_parquet(trained / "predictions" / "test.parquet")
    files = [str(morph_root / file) for file in faces["file"]]
    main(["predict", "--ckpt_path", str(trained), *files, "--out", str(out)])
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": partial(pd.read_json, lines=True)}
    predicted = read[suffix](out)
    assert predicted["file"].tolist() == files
    columns = [name for name in faces if name.startswith(("age_", "gender_", "race_"))]
    rounding = (
        {name: 0.005 if name.startswith("age_") else 5e-5 for name in columns} if suffix == ".csv" else {}
    )
    for name in columns:
        atol = SINGLE + rounding.get(name, 0.0)
        np.testing.assert_allclose(predicted[name], faces[name], rtol=0, atol=atol, err_msg=name)


def test_predict_skips_what_it_cannot_read_and_says_so(trained, morph_root, tmp_path, capsys):
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no image")
    (folder / "b.jpg").write_bytes(next((morph_root / "Album2").iterdir()).read_bytes())
    main(["predict", "--ckpt_path", str(trained), str(folder), "--out", str(tmp_path / "ages.csv")])
    assert len(pd.read_csv(tmp_path / "ages.csv")) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 images" in printed
    assert "a.jpg" in printed


# ------------------------------------------------------------------------ precedence


def printed_config(capsys, *args: object) -> dict:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *map(str, args), "--print_config"])
    assert stopped.value.code in (0, None)
    printed = capsys.readouterr().out
    return yaml.safe_load(printed)


@pytest.mark.parametrize("config_first", [True, False])
def test_the_command_line_beats_the_config_in_any_order(tiny_config, capsys, config_first):
    config, line = ["--config", tiny_config], ["--data.fold", "2", "--model.gender_weight=0.7"]
    settings = printed_config(capsys, *(config + line if config_first else line + config))
    assert settings["data"]["init_args"]["fold"] == 2
    assert settings["model"]["gender_weight"] == 0.7
    assert settings["data"]["init_args"]["batch_size"] == 8


def test_later_configs_beat_earlier_ones_and_keep_what_they_do_not_name(tiny_config, tmp_path, capsys):
    override = tmp_path / "override.yaml"
    override.write_text("model: {age: {init_args: {beta: 0.5}}, msa: {stages: [2]}}\n")
    model = printed_config(capsys, "--config", tiny_config, "--config", override)["model"]
    assert model["age"]["init_args"] == {"form": "exact", "beta": 0.5, "dropout": 0.1}
    assert (model["msa"]["stages"], model["msa"]["rates"]) == ([2], [1])


def test_the_optimizer_is_recorded_like_everything_else(trained):
    settings = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]
    assert settings["optimizer"]["class_path"].endswith("AdamW")
    assert settings["optimizer"]["init_args"]["lr"] == 1e-3
    assert settings["scheduler"]["class_path"].endswith("WarmupCosine")


def test_run_log_holds_what_was_printed(trained):
    log = (trained / "run.log").read_text()
    for printed in (
        "config: ",
        "read 67, kept 67",
        "protocol subject_exclusive",
        "epoch 2/2",
        "constant guess",
    ):
        assert printed in log


def test_config_beats_checkpoint_and_checkpoint_beats_default(trained, tmp_path, capsys):
    config = tmp_path / "data_only.yaml"
    config.write_text("data: {class_path: mtmsa_lightning.MORPH}\nmodel: {gender_weight: 0.9}\n")
    checkpoint = trained / "checkpoints" / "last.ckpt"
    model = printed_config(capsys, "--ckpt_path", checkpoint, "--config", config)["model"]
    assert model["msa"]["stages"] == [1], "from the checkpoint"
    assert model["age"]["init_args"]["dropout"] == 0.1, "from the checkpoint"
    assert model["gender_weight"] == 0.9, "from the config"
    assert model["optimizer"]["init_args"]["lr"] == 1e-3, "from the checkpoint"
    line = ["--ckpt_path", checkpoint, "--config", config, "--model.gender_weight", "0.3"]
    assert printed_config(capsys, *line)["model"]["gender_weight"] == 0.3, "from the command line"


# ------------------------------------------------------------------------ mistakes


def test_an_unknown_command_names_the_nearest(fails):
    assert "did you mean `mtmsa fit`?" in fails("fti", "--config", "demo.yaml")


PLATEAU = "lightning.pytorch.cli.ReduceLROnPlateau"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data.fodl", "2"], "did you mean --data.fold?"),
        (["--trainer.max_epoch", "2"], "did you mean --trainer.max_epochs"),
        (["--model.msa.rate", "[1]"], "did you mean --model.msa.rates?"),
        (["--modle.weights", "null"], "did you mean --model.weights?"),
        (["--data", "UTKFaec"], "did you mean UTKFace?"),
        (["--trainer.max_epochs", "many"], "must be a whole number"),
        (["--wandb", "offlin"], "must be one of online, offline, disabled"),
        (["--model.msa.rates", "[2,2,2]"], "reads 7 of the 13 positions"),
        (["--model.aux_stage", "5"], "model.aux_stage 5"),
        (["--data.protocol", "subject_exclusiv"], "subject_exclusive"),
        (["--data.fold", "9"], "no fold 9"),
        (["--data.image_size", "32"], "64 pixels"),
        (["--model.age", "null", "--model.gender", "null", "--model.race", "null"], "no head is left"),
        (["--ckpt_path", "last"], "nothing to continue"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--model.weights", "nowhere.pth"], "nowhere.pth"),
        (["--model.last_stride", "3"], "last_stride must be 1 or 2"),
        (["--model.gender_weight", "-1"], "not negative"),
        (["--model.age.beta", "2"], "beta must lie between 0 and 1"),
        (["--trainer.strategy", "foo"], "foo"),
        (["--trainer.devices", "0"], "devices"),
        (["--trainer.sync_batchnorm", "true"], "on GPUs only"),
        (["--trainer.precision=bf16-true"], "choose bf16-mixed"),
        (["--trainer.accelerator=mps"], "has no float64"),
        (["--model.lr_batch_size", "0"], "model.lr_batch_size 0 must be at least 1"),
        (["--model.optimizer.lr=-1"], "model.optimizer: Invalid learning rate"),
        (["--model.optimizer", "LBFGS"], "model.optimizer: LBFGS doesn't support per-parameter options"),
        (["--model.scheduler.warmup", "5"], "model.scheduler: warmup 5.0"),
        (["--model.scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"], "lightning.pytorch.cli.Reduce"),
        ([f"--model.scheduler={PLATEAU}", "--model.scheduler.monitor=val/mae"], "did you mean val/age_mae?"),
        (
            ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/mae"],
            "EarlyStopping: monitor val/mae: not among the metrics of these labels and heads; did you",
        ),
        (["--trainer.val_check_interval", "99"], "`val_check_interval` (99) must be less than or equal"),
        (["--trainer.accelerator", "gpu"], "following accelerator(s) is available"),
        (["--ema", "2"], "ema 2: the decay must be from 0 to below 1"),
        (["--checkpoint.monitor", "val/group_acc"], "not among the metrics"),
        (["--model.age", "null"], "checkpoint.monitor val/age_mae"),
        (["--data.protocol", "whole"], "no training part"),
    ],
)
def test_a_mistake_gives_one_short_message(fails, tiny_config, tmp_path, args, said):
    message = fails("fit", "--config", tiny_config, "--trainer.default_root_dir", tmp_path, *args)
    assert said in message
    assert len(message.splitlines()) <= 12


def test_a_missing_root_prints_the_expected_tree(fails, tmp_path, monkeypatch):
    monkeypatch.setenv("MTMSA_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    message = fails("fit", "--config", "morph.yaml", "--model.weights", "null", "--wandb", "disabled")
    assert str(tmp_path / "morph") in message
    assert "morph_2008_nonCommercial.csv" in message
    assert "Album2/" in message


def test_test_refuses_faces_that_were_trained_on(fails, trained, tmp_path):
    other_fold = ["test", "--ckpt_path", trained, "--data.fold", "1", "--trainer.default_root_dir", tmp_path]
    message = fails(*other_fold)
    assert "test faces were trained on" in message
    assert "morph/Album2/" in message
    main([str(arg) for arg in [*other_fold, "--allow_overlap", "true"]])


def test_settings_that_do_not_fit_the_checkpoint_are_told_without_a_traceback(
    fails, trained, tiny_config, tmp_path
):
    args = ["--ckpt_path", trained, "--config", tiny_config, "--trainer.default_root_dir", tmp_path]
    message = fails("test", *args, "--model.msa", "null")
    assert "--model.msa None does not fit the checkpoint" in message
    # it has no weights of its own and would load
    assert "--model.last_stride 1 does not fit" in fails("test", *args, "--model.last_stride", "1")


def test_an_evaluated_checkpoint_keeps_its_model_whatever_a_config_says(trained, tmp_path):
    """The config of another dataset says what data to use; for a fit it is the other way around."""
    config = tmp_path / "other.yaml"
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    momentum = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    settings["model"] = {
        "race": None,
        "msa": None,
        "last_stride": 1,
        "gender_weight": 0.9,
        "optimizer": momentum,
    }
    config.write_text(yaml.safe_dump(settings))
    place = ["--trainer.default_root_dir", str(tmp_path)]
    main(["validate", "--ckpt_path", str(trained), "--config", str(config), *place])
    (run,) = (tmp_path / "tiny").iterdir()
    for name, value in record(trained)["val"].items():
        assert record(run)["val"][name] == pytest.approx(value, abs=SINGLE), name
    used = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert (used["last_stride"], used["gender_weight"]) == (2, 0.2)
    assert used["race"] is not None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "no such file or folder"),
        (["."], "no image"),
        ([".", "--out", "ages.xlsx"], "ending in .csv, .parquet or .jsonl"),
    ],
)
def test_mistakes_in_predict(fails, trained, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails("predict", "--ckpt_path", trained, "--out", "ages.csv", *args)


def test_predict_without_one_readable_image_is_an_error(fails, trained, tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg")  # a table of paths is a .csv or .tsv file
    args = ["predict", "--ckpt_path", trained, tmp_path / "list.txt", "--out", tmp_path / "a.csv"]
    assert "no face in 1 image: 1 unreadable" in fails(*args)


def test_predict_refuses_a_file_that_is_no_checkpoint(fails, tmp_path):
    file = tmp_path / "x.ckpt"
    file.write_bytes(b"not a checkpoint")
    assert "not a readable checkpoint" in fails("predict", "--ckpt_path", file, "--out", "a.csv", file)
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    assert "--model.weights" in fails("predict", "--ckpt_path", file, "--out", "a.csv", file)


# ------------------------------------------------------------------------ wandb and help


@pytest.mark.slow
def test_an_offline_run_needs_no_key_and_leaves_something_to_sync(tiny_config, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    main(["fit", "--config", str(tiny_config), *root, "--wandb", "null"])
    (run,) = (tmp_path / "tiny").iterdir()
    (log,) = run.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    while log.stat().st_size <= 1000 and time.monotonic() < deadline:  # wandb's own process writes it
        time.sleep(0.05)
    assert log.stat().st_size > 1000
    assert record(run)["wandb_id"] in log.name


def test_help_lists_all_commands(capsys):
    main([])
    listed = capsys.readouterr().out
    for verb in ("fit", "validate", "test", *OWN_COMMANDS):
        assert f"\n  {verb} " in listed


def test_an_opencv_that_needs_a_display_is_told(fails, monkeypatch):
    def missing(verb: str, args: list[str]) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(cli, "run", missing)
    assert "--no-deps opencv-python-headless" in fails("prepare", "--data", "folder")
