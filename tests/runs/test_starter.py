"""The network that comes along is read by its name, announced with its terms, and never changed."""

import json
import logging
from pathlib import Path

import cv2
import pytest
import torch

from mtmsa_lightning import MTMSA, AgeEstimator
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import find_checkpoint
from mtmsa_lightning.runs.directory import results_folder
from mtmsa_lightning.runs.initial_weights import trained_network
from mtmsa_lightning.runs.pretrained import is_pretrained
from mtmsa_lightning.runs.starter import INSTALL, STARTER, TERMS, is_starter, starter_folder
from mtmsa_lightning.training.calibrating import store
from mtmsa_lightning.training.evaluating import report_folder

PORTRAIT = Path(__file__).parents[2] / "docs" / "portrait.jpg"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def announced(text: str) -> int:
    return text.count(TERMS)


def test_python_loads_it_by_its_name_and_shows_the_terms(starter, caplog):
    estimator = AgeEstimator.from_pretrained(STARTER, device="cpu")
    assert announced(caplog.text) == 1
    assert caplog.records[0].levelno >= logging.WARNING, "Python shows it without settings"
    assert str(starter / "README.md") in caplog.text
    same = AgeEstimator.from_pretrained(starter, device="cpu")
    (face,), (equal) = estimator(str(PORTRAIT)), same(str(PORTRAIT))
    assert face.landmarks is not None, "faces of photos are found, as in training"
    assert face.to_dict() == equal[0].to_dict()


def test_predict_uses_it_without_a_checkpoint_and_prints_a_line_per_face(starter, tmp_path, capsys):
    (tmp_path / "starter").mkdir()  # the default is not what the working directory has by that name
    cv2.imwrite("grey.png", cv2.imread(str(PORTRAIT))[:40, :40] // 9)
    main(["predict", str(PORTRAIT), "grey.png", "--accelerator", "cpu"])
    printed = capsys.readouterr().out
    assert announced(printed) == 1
    first, second = printed.splitlines()[-2:]
    (face,) = AgeEstimator.from_pretrained(starter, device="cpu")(str(PORTRAIT))
    low, high = face.age.interval(0.9)
    assert first.startswith(f"{PORTRAIT}: {face.age.mean:.1f} years (90 % interval {low:.1f} to {high:.1f}")
    share = face.gender.probabilities[face.gender.name]
    assert f", {face.gender.name} ({share:.2f}), {face.race.name} (" in first
    assert second == "grey.png: no face found"


def test_a_table_records_its_name(starter, tmp_path, capsys):
    main(["predict", str(PORTRAIT), "--out", "ages.csv", "--accelerator", "cpu"])
    assert announced(capsys.readouterr().out) == 1
    assert json.loads((tmp_path / "ages.record.json").read_text())["checkpoint"] == STARTER


def test_printed_faces_need_no_shards_and_at_least_one_face(starter, fails, capsys):
    assert "--shard needs --out" in fails("predict", PORTRAIT, "--shard", "1/2")
    cv2.imwrite("grey.png", cv2.imread(str(PORTRAIT))[:40, :40])
    assert "no face in 1 image: 1 without a face" in fails("predict", "grey.png", "--accelerator", "cpu")


def test_what_is_in_the_working_directory_goes_first_by_that_name(starter, trained, tmp_path):
    (tmp_path / "starter").symlink_to(trained)
    assert find_checkpoint(Path("starter")) == Path("starter/checkpoints/best.ckpt")
    assert starter_folder() == starter


@pytest.mark.parametrize(
    "command",
    [
        ("predict", PORTRAIT),
        ("app",),
        ("predict", PORTRAIT, "--ckpt_path", "starter"),
        ("evaluate", "--ckpt_path", "starter", "--config", "morph.yaml"),
        ("calibrate", "--ckpt_path", "starter", "--config", "morph.yaml"),
        ("export", "--ckpt_path", "starter", "--format", "safetensors"),
        ("test", "--ckpt_path", "starter", "--config", "morph.yaml"),
        ("fit", "--config", "morph.yaml", "--model.weights", "starter"),
        ("fit", "--config", "morph.yaml", "--model.teacher", "starter"),
    ],
)
def test_without_it_one_line_says_how_to_get_it(command, no_starter, fails):
    message = fails(*command)
    assert f"starter: the network that comes along is not installed: {INSTALL}" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("load", [AgeEstimator.from_pretrained, MTMSA.load, trained_network])
def test_python_is_told_too(load, no_starter):
    with pytest.raises(CheckpointError, match="not installed"):
        load(STARTER)


def test_a_package_without_weights_is_told_from_a_missing_one(starter, monkeypatch):
    monkeypatch.setattr("mtmsa_lightning.runs.starter.NETWORK", "nothing")
    with pytest.raises(CheckpointError, match=r"has no weights in .*nothing: in a checkout"):
        starter_folder()


def test_its_weights_start_a_training(starter):
    checkpoint = trained_network(STARTER)
    weights = MTMSA.load(starter).state_dict()
    assert all(torch.equal(values, weights[name]) for name, values in checkpoint["state_dict"].items())
    assert "train_id_hashes" in checkpoint["provenance"]


def test_files_made_from_it_go_to_the_folder_of_runs(starter, trained):
    weights = find_checkpoint(Path(STARTER))
    assert weights.parent == starter
    assert is_starter(weights)
    assert not is_starter(trained / "checkpoints" / "best.ckpt")
    assert results_folder(weights) == Path("runs/starter")
    data = {"class_path": "mtmsa_lightning.UTKFace", "init_args": {"protocol": "random", "fold": 0}}
    report = report_folder(None, str(weights), {"data": data})
    assert report == Path("runs/starter/evaluation-model-utkface-random-fold0").absolute()


def test_it_is_calibrated_elsewhere_only(starter, tiny_config, tmp_path, fails):
    before = {file.name: file.read_bytes() for file in starter.iterdir()}
    arguments = ["--ckpt_path", "starter", "--config", str(tiny_config), "--part", "val"]
    assert "is not changed: give --out" in fails("calibrate", *arguments)
    with pytest.raises(ConfigError, match="is not changed"):
        store(STARTER, None)
    main(["calibrate", *arguments, "--other_data", "true", "--out", "mine/model.safetensors"])
    assert {file.name: file.read_bytes() for file in starter.iterdir()} == before
    mine = MTMSA.load("mine")
    assert mine.calibration.fitted_on["part"] == "val"
    assert torch.equal(mine.trunk.conv1.weight, MTMSA.load(STARTER).trunk.conv1.weight)
    assert is_pretrained(tmp_path / "mine")


def test_faces_that_it_was_trained_on_are_no_test_faces(starter, tiny_config, fails):
    """Another fold has other test faces, which were training faces of fold 0."""
    message = fails("fit", "--config", tiny_config, "--data.fold", 1, "--model.weights", "starter")
    assert "were trained on" in message
    message = fails("crossval", "--config", tiny_config, "--folds", 1, "--model.teacher", "starter")
    assert "--model.teacher starter, fold 1: " in message
