"""What W&B and TensorBoard are sent, read back from the files of offline runs."""

import json
import logging
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import wandb_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.callbacks import wandb as ours
from mtmsa_lightning.training.callbacks.logged_plots import Panels, face_tables, panels, use_dataset
from mtmsa_lightning.training.callbacks.wandb import log_files, tags
from mtmsa_lightning.training.lightning_cli import TrainingCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command


@pytest.fixture(scope="module")
def fit(tiny_config, tmp_path_factory):
    """The run directory of one epoch, logged offline, and of a second one in its continuation."""
    root = tmp_path_factory.mktemp("wandb")
    line = [
        "fit",
        "--config",
        str(tiny_config),
        "--trainer.default_root_dir",
        str(root),
        "--wandb",
        "offline",
    ]
    main([*line, "--trainer.max_epochs", "1"])
    main([*line, "--ckpt_path", "last", "--trainer.max_epochs", "2", "--test_after_fit", "false"])
    (run,) = (root / "tiny").iterdir()
    return run


@pytest.fixture(scope="module")
def logs(fit):
    """The files of both parts, in order of time; wandb's own process may still be writing them."""
    files = sorted(fit.glob("wandb/offline-run-*/run-*.wandb"))
    deadline = time.monotonic() + 60
    while not all(wandb_file.is_finished(file) for file in files) and time.monotonic() < deadline:
        time.sleep(0.05)
    return files


@pytest.fixture(scope="module")
def history(logs):
    """Everything that the first part logged."""
    return {name: value for row in wandb_file.history(logs[0]) for name, value in row.items()}


@pytest.mark.slow
def test_a_run_says_what_it_is_and_keeps_its_id_when_it_is_continued(fit, logs):
    begun, continued = [
        next(record.run for record in wandb_file.records(log) if record.WhichOneof("record_type") == "run")
        for log in logs
    ]
    assert begun.run_id == continued.run_id == read_record(fit)["wandb_id"]
    assert list(begun.tags) == ["morph", "subject_exclusive", "fold0", "GaussianAgeHead", "gender", "race"]
    assert (begun.run_group, begun.job_type) == ("tiny", "fit")


@pytest.mark.slow
def test_config_commit_fingerprints_and_label_rule_are_logged(fit, logs):
    config, record = wandb_file.config(logs[0]), read_record(fit)
    assert config["provenance"] == record["data"]
    assert config["provenance"]["fingerprints"]["test"]
    assert config["provenance"]["label_rule"] == "morph table columns"
    assert config["git_commit"] == record["git_commit"]
    assert config["model"]["msa"]["rates"] == [1]


@pytest.mark.slow
def test_metrics_losses_weights_speed_and_gradients_are_logged(history):
    for stage in ("train", "val", "test"):
        assert {
            f"{stage}/age_mae",
            f"{stage}/age_loss",
            f"{stage}/gender_loss",
            f"{stage}/loss",
        } <= history.keys()
    assert history["train/gender_weight"] == pytest.approx(0.2)
    assert 0 < history["train/grad_norm"] <= history["train/grad_norm_max"]
    assert history["speed/images_per_second"] > 0
    assert 0 <= history["speed/data_wait_share"] < 1
    assert history["lr/heads"] > 0


@pytest.mark.slow
def test_pictures_and_tables_follow_each_validation_and_photos_do_not(fit, logs, history):
    names = ("cumulative_score", "predicted_against_true", "confusion_age_groups", "confusion_gender")
    for name in (*names, "confusion_race"):
        assert history[f"val/{name}/_type"] == "image-file"
        assert len(list(logs[0].parent.glob(f"files/media/images/val/{name}_*.png"))) == 1
    for name in ("worst_faces", "most_uncertain_faces"):
        (file,) = logs[0].parent.glob(f"files/media/table/val/{name}_*.table.json")
        table = json.loads(file.read_text())
        assert table["columns"] == ["row", "label", "prediction", "std", "low90", "high90", "error"]
        assert len(table["data"]) == read_record(fit)["data"]["faces"]["val"]
    assert list(logs[1].parent.glob("files/media/images/val/cumulative_score_*.png"))


@pytest.mark.slow
def test_a_fit_and_its_test_send_no_face_and_no_name(logs, morph_root):
    names = [file.stem for file in morph_root.rglob("*.JPG")]
    for log in logs:
        contents = wandb_file.sent(log)
        assert wandb_file.faces_in(contents) == []
        assert wandb_file.names_in(contents, names) == []
    assert any(name.endswith("best.ckpt") for name in contents)


@pytest.mark.slow
def test_the_best_checkpoint_and_the_dataset_are_artifacts(fit, logs):
    found = {artifact.type: artifact for artifact in wandb_file.artifacts(logs[0])}
    assert found["model"].name == "tiny-checkpoint"
    assert set(found["model"].aliases) == {"latest", "best", fit.name}
    assert [entry.path for entry in found["model"].manifest.contents] == ["best.ckpt"]
    assert found["dataset"].name == "synthetic-morph-subject_exclusive-fold0"
    fingerprints = json.loads(found["dataset"].metadata)["fingerprints"]
    assert fingerprints == read_record(fit)["data"]["fingerprints"]


# ------------------------------------------------------------------------ TensorBoard

TENSORBOARD = "--trainer.logger=TensorBoardLogger"


@pytest.mark.slow
def test_tensorboard_gets_metrics_and_pictures_and_neither_photos_nor_names_of_files(tiny_config, tmp_path):
    main(
        ["fit", f"--config={tiny_config}", f"--run_dir={tmp_path / 'run'}", "--wandb_faces=true", TENSORBOARD,
         f"--trainer.logger.save_dir={tmp_path / 'tb'}", "--trainer.max_epochs=1", "--test_after_fit=false"]
    )  # fmt: skip
    (folder,) = (tmp_path / "tb" / "lightning_logs").iterdir()
    shown = EventAccumulator(str(folder)).Reload()
    names = ("cumulative_score", "predicted_against_true", "confusion_age_groups", "confusion_gender")
    assert set(shown.Tags()["images"]) == {f"val/{name}" for name in (*names, "confusion_race")}
    picture = shown.Images("val/cumulative_score")[0]
    assert imagesize(picture.encoded_image_string) == (picture.height, picture.width)
    assert {"val/age_mae", "train/loss", "lr/heads", "train/grad_norm"} <= set(shown.Tags()["scalars"])
    written = b"".join(file.read_bytes() for file in folder.iterdir())
    assert b".jpg" not in written.lower()
    assert read_record(tmp_path / "run")["monitor"]
    assert "val/age_mae" in pd.read_csv(tmp_path / "run" / "metrics.csv")


def imagesize(encoded):
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape[:2]


def test_tensorboard_without_its_package_names_the_extra(tiny_config, tmp_path, fails, monkeypatch):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning.fabric.loggers.tensorboard.{name}", False)
    save_dir = f"--trainer.logger.save_dir={tmp_path}"
    message = fails("fit", f"--config={tiny_config}", f"--run_dir={tmp_path / 'run'}", TENSORBOARD, save_dir)
    assert "pip install 'mtmsa-lightning[tensorboard]'" in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--wandb=disabled"], ["EpochCSV"]),
        (["--wandb=offline"], ["EpochCSV", "WandbLogger"]),
        (["--wandb=offline", "--trainer.logger=true"], ["EpochCSV", "WandbLogger"]),
        (["--wandb=offline", "--trainer.logger=false"], []),
        (["--wandb=offline", TENSORBOARD, "--trainer.logger.save_dir=x"],
         ["EpochCSV", "TensorBoardLogger", "WandbLogger"]),
        (["--wandb=offline", "--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=x",
          "--trainer.logger+=TensorBoardLogger", "--trainer.logger.save_dir=y"],
         ["EpochCSV", "CSVLogger", "TensorBoardLogger", "WandbLogger"]),
        (["--wandb=online", "--trainer.logger=WandbLogger", "--trainer.logger.offline=true"],
         ["EpochCSV", "WandbLogger"]),
    ],
)  # fmt: skip
def test_loggers_of_the_user_are_added_to_ours(tiny_config, tmp_path, monkeypatch, line, expected):
    monkeypatch.chdir(tmp_path)

    class Built(TrainingCLI):
        def _run_subcommand(self, subcommand):
            pass

    args = [f"--config={tiny_config}", f"--run_dir={tmp_path / 'run'}", *line]
    trainer = run_trainer_command("fit", args, Built).trainer
    assert [type(logger).__name__ for logger in trainer.loggers] == expected
    pictures = any(name in ("WandbLogger", "TensorBoardLogger") for name in expected)
    assert any(isinstance(each, Panels) for each in trainer.callbacks) == pictures


# ------------------------------------------------------------------------ parts


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {
                "data": {
                    "class_path": "mtmsa_lightning.Adience",
                    "init_args": {"protocol": "folds", "fold": 3},
                },
                "model": {"age": {"class_path": "mtmsa_lightning.DLDLAgeHead"}, "gender": {}, "race": None},
            },
            ["adience", "folds", "fold3", "DLDLAgeHead"],
        ),
        (
            {"data": {"class_path": "mine.Faces"}, "model": {"age": None, "gender": {"a": 1}}},
            ["faces", "gender"],
        ),
        ({}, []),
    ],
)
def test_tags_name_dataset_protocol_fold_and_heads(config, expected):
    assert tags(config) == expected


TABLE = pd.DataFrame(
    {
        "id": ["a", "b", "c"], "subject": "", "label_age_low": [20.0, 30.0, 40.0],
        "label_age_high": [20.0, 30.0, 40.0], "age_mean": [21.0, 39.0, 40.0], "age_std": [3.0, 2.0, 5.0],
    }
)  # fmt: skip


def test_the_worst_faces_come_first_and_photos_only_if_they_are_asked_for():
    class Faces:
        table = TABLE

        def image_of(self, face):
            row = TABLE["id"].tolist().index(face)
            return torch.full((8, 8, 3), row, dtype=torch.uint8).numpy()

    predictions = read_predictions(TABLE)
    private = face_tables(predictions, None)
    rows = {kind: [predictions.ids[row[0]] for row in table.data] for kind, table in private.items()}
    assert rows == {"worst_faces": ["b", "a", "c"], "most_uncertain_faces": ["c", "a", "b"]}
    assert private["worst_faces"].columns == ["row", "label", "prediction", "std", "low90", "high90", "error"]
    shown = face_tables(predictions, Faces())["worst_faces"]
    photo = shown.data[0][shown.columns.index("photo")]
    assert photo.image.getpixel((0, 0)) == (1, 1, 1), "of face b"


def test_there_is_no_picture_without_labels_behind_it():
    assert set(panels(read_predictions(TABLE))) == {
        "cumulative_score", "predicted_against_true", "confusion_age_groups",
    }  # fmt: skip
    groups = TABLE.assign(label_age_low=[15.0, 25.0, 38.0], label_age_high=[20.0, 32.0, 43.0])
    assert set(panels(read_predictions(groups))) == {"confusion_age_groups"}


class Refusing(ours.WandbLogger):
    """A logger whose server is lost."""

    def __init__(self):
        self.sent = []

    @property
    def experiment(self):
        raise ConnectionError("lost")

    def log_metrics(self, metrics, step=None):
        raise ConnectionError("lost")


def test_a_lost_server_does_not_stop_a_run(caplog, tmp_path):
    data = SimpleNamespace(provenance=dict)
    trainer = SimpleNamespace(is_global_zero=True, loggers=[Refusing()], datamodule=data)
    with caplog.at_level(logging.WARNING):
        Panels().setup(trainer, None, "fit")
    assert "ConnectionError: lost; training continues" in caplog.text
    (tmp_path / "best.ckpt").touch()
    log_files([Refusing()], tmp_path, "tiny", tmp_path / "best.ckpt")
    assert "the checkpoint is not uploaded: lost" in caplog.text


def test_a_report_is_an_artifact_with_its_plots_and_tables(tmp_path):
    class Recording(ours.WandbLogger):
        def __init__(self):
            self.logged = []

        @property
        def experiment(self):
            return SimpleNamespace(
                log_artifact=lambda artifact, aliases: self.logged.append((artifact, aliases))
            )

    of_faces = ("plots/attention_maps.png", "plots/attention_maps.svg", "tables/faces.csv")
    for file in ("report.html", "plots/a.svg", "tables/a.csv", "predictions.csv", *of_faces):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(file)
    logger = Recording()
    log_files([logger], tmp_path, "morph/fold 0", None)
    log_files([logger], tmp_path, "morph/fold 0", None, faces=True)
    (artifact, aliases), (shown, _) = logger.logged
    assert (artifact.name, artifact.type) == (ours.artifact_name("morph/fold 0", "report"), "report")
    assert sorted(artifact.manifest.entries) == ["plots/a.svg", "report.html", "tables/a.csv"]
    assert sorted(shown.manifest.entries) == sorted([*artifact.manifest.entries, *of_faces])
    assert aliases == ["latest-report", tmp_path.name]


@pytest.mark.parametrize(("offline", "how"), [(True, "log_artifact"), (False, "use_artifact")])
def test_the_dataset_is_an_artifact_that_online_runs_use(offline, how):
    called = []
    run = SimpleNamespace(
        settings=SimpleNamespace(_offline=offline),
        log_artifact=lambda artifact: called.append(("log_artifact", artifact)),
        use_artifact=lambda artifact: called.append(("use_artifact", artifact)),
    )
    fingerprints = {"train": "ab", "test": "cd"}
    provenance = {"dataset": "morph", "protocol": "random", "fold": 1, "fingerprints": fingerprints}
    use_dataset(SimpleNamespace(experiment=run), provenance)
    ((name, artifact),) = called
    assert (name, artifact.name, artifact.type) == (how, "morph-random-fold1", "dataset")
    assert artifact.is_draft()  # which `use_artifact` uploads first
    (entry,) = artifact.manifest.entries.values()
    assert Path(entry.local_path).read_text() == "train ab\ntest cd"
