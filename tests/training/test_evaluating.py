"""``mtmsa evaluate``: where the report goes, that nothing is lost, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import warm_process

from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.evaluation.comparison import read_contender
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.evaluating import of_this_split, report_folder


@pytest.fixture
def run(trained, tmp_path):
    """The trained run, to write into: its files are shared, and replaced rather than changed."""
    return Path(shutil.copytree(trained, tmp_path / "run", copy_function=os.link))


def evaluate(*args: object) -> None:
    main(["evaluate", *map(str, args)])


@pytest.mark.slow
def test_evaluate_writes_a_report_into_the_run_and_leaves_everything_else(run, capsys, only_faces_drawn):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.suffix != ".ckpt"}
    runs = set(run.parent.iterdir())
    evaluate("--ckpt_path", run)
    folder = run / "evaluation"
    said = capsys.readouterr().out
    assert f"files: {folder}\n" in said
    assert said.endswith(f"report: {folder / 'report.html'}\n")
    assert set(run.parent.iterdir()) == runs, "no other run was begun"
    assert {file: file.read_bytes() for file in before} == before
    assert {file.name for file in folder.iterdir()} == {
        ".lock", "report.html", "plots", "metrics.json", "tables", "predictions.parquet", "predictions.csv",
        "config.yaml", "run.json", "run.log", "MODEL_CARD.md",
    }  # fmt: skip

    metrics = from_json((folder / "metrics.json").read_text())
    record, fit = (from_json((place / "run.json").read_text()) for place in (folder, run))
    for name, value in record["test"].items():
        if not name.endswith("loss"):
            found = metrics["scalars"][name.removeprefix("test/")]
            assert found == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert record["test"]["test/age_mae"] == pytest.approx(fit["test"]["test/age_mae"], abs=1e-4)
    assert metrics["quoted_with"]["split fingerprint (test)"] == fit["data"]["fingerprints"]["test"]
    assert metrics["quoted_with"]["seed of the run"] == "0"

    ours, first = (
        pd.read_parquet(folder / "predictions.parquet"),
        pd.read_parquet(run / "predictions/test.parquet"),
    )
    assert ours["id"].tolist() == first["id"].tolist()
    np.testing.assert_allclose(ours["age_mean"], first["age_mean"], atol=1e-4)

    card = (folder / "MODEL_CARD.md").read_text()
    assert f"| age MAE (years) | {metrics['scalars']['age_mae']:.2f} |" in card
    assert f"| split fingerprint (test) | {fit['data']['fingerprints']['test']} |" in card
    assert f"training age (years) | {record['constant_age_mae']:.2f} | - |" in card
    assert str(run) not in card, "where files lie is nobody's business"

    page = (folder / "report.html").read_text()
    for said in ("subject_exclusive", "Guessing one age", "Multi-scale attention", "data:image/jpeg"):
        assert said in page
    assert (folder / "plots" / "attention_maps.png").is_file()


def test_files_are_named_when_there_are_any(run, undrawn, monkeypatch, capsys):
    broken = DataError("the disk is full")

    def fail(*_: object) -> None:
        raise broken

    monkeypatch.setattr("mtmsa_lightning.training.evaluating.write_report", fail)
    with pytest.raises(SystemExit):
        evaluate("--ckpt_path", run)
    assert "files:" not in capsys.readouterr().out


def test_other_data_get_a_folder_of_their_own_and_photos_can_be_skipped(run, undrawn):
    evaluate("--ckpt_path", run, "--data.fold", 1, "--allow_overlap", "true", "--faces", "false")
    page = (run / "evaluation-morph-subject_exclusive-fold1" / "report.html").read_text()
    assert "data:image/jpeg" not in page
    assert not (run / "evaluation").exists()


def test_an_evaluation_on_part_of_the_test_part_says_so_everywhere(run, undrawn, capsys):
    """One batch of 8 of the 15 faces."""
    evaluate("--ckpt_path", run, "--trainer.limit_test_batches", 1, "--faces", "false")
    folder, note = run / "evaluation", "partial: 8 of 15 faces of the test part"
    assert read_record(folder)["seen"]["test"] == {"faces": 8, "unreadable": 0, "of": 15}
    assert len(pd.read_parquet(folder / "predictions.parquet")) == 8
    printed = capsys.readouterr().out
    assert "test (n = 8 of 15, partial)" in printed
    assert note in printed
    assert note in (folder / "report.html").read_text()
    assert (folder / "MODEL_CARD.md").read_text().count(f"These metrics are {note}.") == 3
    assert read_contender(folder).record["faces_seen"] == note
    assert read_record(run)["seen"] == {
        "val": {"faces": 14, "unreadable": 0, "of": 14}, "test": {"faces": 15, "unreadable": 0, "of": 15},
    }  # fmt: skip


def test_evaluating_again_replaces_the_report(run, undrawn, tmp_path):
    evaluate("--ckpt_path", run, "--out", tmp_path / "out")
    first = (tmp_path / "out" / "report.html").stat().st_mtime_ns
    assert "data:image/jpeg" in (tmp_path / "out" / "report.html").read_text()
    evaluate("--ckpt_path", run, "--out", tmp_path / "out", "--data.batch_size", 4, "--faces", "false")
    assert (tmp_path / "out" / "report.html").stat().st_mtime_ns > first
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert not [file for file in files if b"\xff\xd8\xff\xe0" in file.read_bytes()]
    assert "data:image/jpeg" not in (tmp_path / "out" / "report.html").read_text()
    assert not [file for file in files if file.name.startswith("attention_maps")]
    assert not (run / "evaluation").exists()


# ------------------------------------------------------------------------ the folder


def settings(**data):
    values = {"protocol": "random", "fold": 0, "crop": 1.0, "num_workers": None} | data
    return {"data": {"class_path": "mtmsa_lightning.UTKFace", "init_args": values}}


@pytest.fixture
def empty_run(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(json.dumps(settings()))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("checkpoint", "data", "name"),
    [
        ("best", {}, "evaluation"),
        ("best", {"num_workers": 3, "batch_size": 7}, "evaluation"),
        ("last", {}, "evaluation-last"),
        ("best", {"fold": 2}, "evaluation-utkface-random-fold2"),
        ("best", {"crop": 0.5}, "evaluation-utkface-random-fold0"),
        ("last", {"protocol": "whole"}, "evaluation-last-utkface-whole-fold0"),
        ("best", {"a_setting_of_later": True}, "evaluation"),
    ],
)
def test_the_folder_is_named_after_what_is_evaluated(empty_run, checkpoint, data, name):
    file = empty_run / "checkpoints" / f"{checkpoint}.ckpt"
    assert report_folder(None, str(file), settings(**data)) == empty_run / name


def test_a_checkpoint_outside_a_run_has_its_report_beside_it(tmp_path):
    file = tmp_path / "model.ckpt"
    assert report_folder(None, str(file), settings()) == tmp_path / "evaluation-model-utkface-random-fold0"


@pytest.mark.parametrize(
    ("trained_on", "share"), [({"dataset": "morph"}, 0.959), ({"dataset": "adience"}, None), (None, 0.959)]
)
def test_subjects_of_a_training_part_that_was_not_trained_on_are_new(trained_on, share):
    data = {"dataset": "morph", "fold": 0, "subjects_in_two_parts": 0.959}
    assert of_this_split(data, trained_on) == data | {"subjects_in_two_parts": share}


def test_a_folder_of_something_else_is_refused(empty_run, tmp_path):
    checkpoint = str(empty_run / "checkpoints" / "best.ckpt")
    out = tmp_path / "out"
    out.mkdir()
    assert report_folder(out, checkpoint, settings()) == out, "an empty one is welcome"
    (out / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="holds other files: choose another folder with --out"):
        report_folder(out, checkpoint, settings())
    with pytest.raises(ConfigError, match="holds other files"):
        report_folder(empty_run, checkpoint, settings())
    (out / "config.yaml").write_text(json.dumps(settings(crop=0.5)))
    (out / "run.json").write_text(json.dumps({"checkpoint": checkpoint}))
    with pytest.raises(ConfigError, match=r"other data \(data.crop was 0.5, is 1.0\)"):
        report_folder(out, checkpoint, settings())
    assert report_folder(out, checkpoint, settings(crop=0.5)) == out
    with pytest.raises(ConfigError, match=r"a report on .*best\.ckpt"):
        report_folder(out, checkpoint.replace("best", "last"), settings(crop=0.5))


# ------------------------------------------------------------------------ mistakes


def test_faces_that_were_trained_on_are_refused(fails, run):
    assert "test faces were trained on" in fails("evaluate", "--ckpt_path", run, "--data.fold", 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--ckpt_path", "."], ".: no checkpoint in this folder: it holds broken.ckpt"),
        (["--ckpt_path", "last"], "continues a training: give a checkpoint or a run directory"),
        (["--ckpt_path", "broken.ckpt"], "not a readable checkpoint"),
    ],
)
def test_a_wrong_checkpoint_gives_one_short_message(fails, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    assert said in fails("evaluate", *args)


def test_a_typo_names_what_was_meant(fails, run):
    assert "did you mean --data.fold?" in fails("evaluate", "--ckpt_path", run, "--data.fodl", 2)


def test_without_a_checkpoint_it_is_asked_for(fails):
    assert (
        fails("evaluate")
        == "error: give --ckpt_path or --predictions: `mtmsa evaluate --help` lists the options\n"
    )


@pytest.mark.slow
def test_two_processes_write_one_report_with_the_metrics_of_one(run, tmp_path, capsys, undrawn):
    """Of 13 faces, so that one process has a face less."""
    part = ["--data.protocol", "random", "--data.fold", "4", "--allow_overlap", "true"]
    exact = ["--trainer.precision", "64-true", "--faces", "false"]
    args = ["evaluate", "--ckpt_path", str(run), *part, *exact, "--out"]
    main([*args, str(tmp_path / "one")])
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = warm_process.run("-m", "mtmsa_lightning", *args, tmp_path / "two", *ddp)
    assert done.poll() == 0, done.stdout + done.stderr
    assert done.stdout.count("report: ") == capsys.readouterr().out.count("report: ") == 1
    assert read_record(tmp_path / "two")["world_size"] == 2
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert two["faces"] == one["faces"] == 13
    for name, value in one["scalars"].items():
        assert two["scalars"][name] == (value if value is None else pytest.approx(value, abs=1e-6)), name
    alone, faces = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("one", "two"))
    assert faces["id"].tolist() == alone["id"].tolist()
    np.testing.assert_allclose(faces["age_mean"], alone["age_mean"], atol=1e-6)
