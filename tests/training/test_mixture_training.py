"""A training on exact ages from one source, age groups from another and races of a third."""

import json
import os
import socket
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from mixed_sources import SIZES, source, write_source
from warm_process import WarmProcess

from mtmsa_lightning import MTMSA
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.run_json import read_record

pytestmark = pytest.mark.slow

CONSTANT = ("--model.scheduler=torch.optim.lr_scheduler.ConstantLR", "--model.scheduler.factor=1.0")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    for name in SIZES:
        write_source(folder, name)
    return folder


@pytest.fixture(scope="module")
def config(root):
    """A config whose sources are named by class."""
    sources = [
        {
            "class_path": "FaceCSV",
            "init_args": {"root": str(root / name), "dataset_name": name, "protocol": "predefined"}
            | ({"age_groups": "adience"} if name == "groups" else {}),
        }
        for name in SIZES
    ]
    mixture = {"sources": sources, "weights": {"exact": 2}, "caps": {"groups": 10}, "image_size": 64}
    settings = {
        "name": "joint", "wandb": "disabled", "model": {"msa": None},
        "data": {"class_path": "Mixture", "init_args": mixture | {"batch_size": 4, "num_workers": 0}},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
        "checkpoint": {"monitor": "val/exact/age_mae"},
    }  # fmt: skip
    file = root / "joint.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.fixture(scope="module")
def run(root, config):
    """Two epochs of constant learning rates, which a continued run can repeat."""
    main(["fit", "--config", str(config), *CONSTANT, "--run_dir", str(root / "run")])
    return root / "run"


def test_metrics_are_logged_for_every_source_and_all(run):
    tested = read_record(run)["test"]
    validated = pd.read_csv(run / "metrics.csv")
    for metrics, part in ((tested, "test"), (validated, "val")):
        assert {f"{part}/age_mae", f"{part}/exact/age_mae", f"{part}/groups/group_acc"} <= set(metrics)
        assert {f"{part}/races/race_acc", f"{part}/races/gender_acc"} <= set(metrics)
        assert not {f"{part}/races/age_mae", f"{part}/exact/race_acc", f"{part}/groups/age_mae"} & set(
            metrics
        )
    assert tested["test/age_mae"] == tested["test/exact/age_mae"], "only one source has exact ages"
    assert tested["test/race_acc"] == tested["test/races/race_acc"]


def test_predictions_name_the_source_and_its_metrics_follow_from_them(run):
    faces = pd.read_parquet(run / "predictions" / "test.parquet")
    tested = read_record(run)["test"]
    assert faces["dataset"].value_counts().to_dict() == {"exact": 6, "groups": 4, "races": 3}
    assert (faces["id"].str.partition("/")[0] == faces["dataset"]).all()
    for name in ("groups", "races"):
        own = faces[faces["dataset"] == name]
        right = (own["gender_male"] > 0.5) == (own["label_gender"] == "male")
        assert tested[f"test/{name}/gender_acc"] == pytest.approx(right.mean())
    exact = faces[faces["dataset"] == "exact"]
    error = (exact["age_mean"] - exact["label_age_low"]).abs().mean()
    assert tested["test/exact/age_mae"] == pytest.approx(error, abs=1e-5)


def test_the_metrics_of_a_source_are_those_of_a_test_on_it_alone(run, root):
    model = MTMSA.load(str(run))
    model.allow_overlap = True
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    tested = read_record(run)["test"]
    for name in SIZES:
        data = source(root, name, image_size=64)
        (alone,) = trainer.test(model, data, verbose=False)
        mixed = {
            key: tested[f"test/{name}/{key.removeprefix('test/')}"] for key in alone if "loss" not in key
        }
        assert {key: alone[key] for key in mixed} == pytest.approx(mixed, abs=1e-5, nan_ok=True), name


def test_record_and_checkpoint_hold_all_parts_of_all_sources(run):
    record, provenance = read_record(run)["data"], MTMSA.load(str(run)).provenance
    for each in (record, provenance):
        assert [*each["sources"]] == [*SIZES]
        assert all(
            {"train", "val", "test", "labels"} <= set(of["fingerprints"]) for of in each["sources"].values()
        )
    assert len(provenance["train_id_hashes"]) == len(provenance["train_image_hashes"]) == 44 + 14


def test_the_trained_faces_of_every_source_are_refused_in_a_test(run, root, fails):
    data = ["--data", "FaceCSV", "--data.dataset_name", "races", "--root", str(root / "races")]
    message = fails("test", "--ckpt_path", run, *data, "--data.protocol", "whole")
    assert "14 of 17 test faces were trained on by this checkpoint" in message


def test_a_checkpoint_is_evaluated_calibrated_and_predicts(run, tmp_path, root, undrawn):
    main(["evaluate", "--ckpt_path", str(run), "--out", str(tmp_path / "report")])
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<h2>Sources</h2>" in page or ">Sources<" in page
    table = pd.read_csv(tmp_path / "report" / "tables" / "sources.csv").set_index("name")
    assert [*table] == ["all", *SIZES]
    tested = json.loads((tmp_path / "report" / "run.json").read_text())["test"]
    assert table["exact"]["age_mae"] == pytest.approx(tested["test/exact/age_mae"])
    assert pd.isna(table["races"]["age_mae"])
    out = tmp_path / "calibrated.ckpt"
    main(["calibrate", "--ckpt_path", str(run), "--out", str(out)])
    assert MTMSA.load(str(out)).calibration is not None
    photo = str(root / "races" / "003.png")
    main(["predict", photo, "--ckpt_path", str(run), "--detect", "false", "--out", str(tmp_path / "p.csv")])
    assert {"age_mean", "race_Black", "race_East Asian"} <= set(pd.read_csv(tmp_path / "p.csv"))


def test_sources_that_moved_with_the_run_are_found(run, root, config, tmp_path, monkeypatch):
    """Their roots are relative in the config, which the run records as absolute paths."""
    monkeypatch.chdir(root)
    relative = tmp_path / "relative.yaml"
    relative.write_text(config.read_text().replace(f"{root}/", ""))
    main(["fit", "--config", str(relative), "--run_dir", str(tmp_path / "run"), "--trainer.max_epochs", "1"])
    monkeypatch.chdir(tmp_path)
    main(["validate", "--ckpt_path", str(tmp_path / "run"), "--run_dir", str(tmp_path / "again")])
    again, first = read_record(tmp_path / "again")["val"], read_record(tmp_path / "run")["val"]
    assert again == pytest.approx(first, abs=1e-5, nan_ok=True)


def test_a_continued_run_ends_like_one_that_was_not_stopped(run, config, tmp_path):
    fit = ["fit", "--config", str(config), *CONSTANT, "--test_after_fit=false"]
    for epochs in (1, 2):
        main([*fit, "--run_dir", str(tmp_path / "continued"), f"--trainer.max_epochs={epochs}"])
    whole, continued = (pd.read_csv(each / "metrics.csv") for each in (run, tmp_path / "continued"))
    assert continued["epoch"].tolist() == [0, 1]
    for column in whole.filter(regex="^(train|val)/").drop(columns="train/seconds"):
        assert continued[column].tolist() == pytest.approx(whole[column].tolist(), abs=1e-6, nan_ok=True), (
            column
        )


# ------------------------------------------------------------------ two processes against one

WORK = "import mixed_work; mixed_work.main()"


def fit(root, out, ranks):
    """Train with a number of processes; return what each has written, and the weights of the first."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folders = Path(__file__).parents[:2]
    path = {"PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ["PYTHONPATH"]])}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks), "NODE_RANK": "0"}
    environments = [path | where | {"LOCAL_RANK": str(rank)} if ranks > 1 else path for rank in range(ranks)]
    processes = [WarmProcess("-c", WORK, root, out, ranks, environment=each) for each in environments]
    assert [each.wait() for each in processes] == [0] * ranks, "".join(each.stderr for each in processes)
    written = [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(ranks)]
    return written, torch.load(out / "rank0.pt", weights_only=True), pd.read_parquet(out / "test.parquet")


def test_two_processes_train_and_evaluate_exactly_like_one(root, tmp_path):
    """Faces, weights, metrics of every source and predictions, to rounding."""
    (alone,), weights, faces = fit(root, tmp_path / "one", 1)
    shared, their_weights, their_faces = fit(root, tmp_path / "two", 2)
    pairs = zip(*(each["ids"] for each in shared), strict=True)
    assert [name for step in pairs for name in step] == alone["ids"]
    for name, value in weights.items():
        torch.testing.assert_close(their_weights[name], value, rtol=1e-9, atol=1e-12, msg=name)
    assert {f"test/{key}" for key in ("exact/age_mae", "groups/group_acc", "races/race_acc")} <= set(
        alone["metrics"]
    )
    for each in shared:
        assert each["metrics"] == pytest.approx(alone["metrics"], abs=1e-6, nan_ok=True)
    pd.testing.assert_frame_equal(their_faces, faces, atol=1e-9)
