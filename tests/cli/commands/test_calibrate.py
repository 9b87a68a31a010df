"""`mtmsa calibrate` on a run, and what the checkpoint then does; tables are recomputed by numpy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from scipy.stats import norm

from mtmsa_lightning import MORPH, MTMSA, AgeEstimator
from mtmsa_lightning.calibration.calibration import LEVELS
from mtmsa_lightning.calibration.policy import DECISIONS, AgePolicy
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.synthetic import write_morph, write_utkface
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.reports.card import card_of_checkpoint
from mtmsa_lightning.runs.checkpoints import weights_digest
from mtmsa_lightning.runs.run_json import update_record
from mtmsa_lightning.training.calibrating import calibrate, store

SINGLE = 1e-4

LOOSE = {"max_fpr": 0.4, "confidence": 0.8, "near_years": 20}  # few faces are enough


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    write_morph(folder / "morph", n_faces=150, seed=5, size=72)
    data = {
        "root": str(folder / "morph"), "image_size": 64, "crop": 1.0, "batch_size": 16, "num_workers": 0,
        "calibration_fraction": 0.35,
    }  # fmt: skip
    settings = {
        "name": "tiny",
        "data": {"class_path": "mtmsa_lightning.MORPH", "init_args": data},
        "model": {"msa": {"rates": [1], "stages": [1]}},
        "trainer": {
            "max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False,
            "default_root_dir": str(folder / "runs"),
        },
        "test_after_fit": False,
        "wandb": "disabled",
    }  # fmt: skip
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.fixture(scope="module")
def fresh(config):
    """A finished run without a calibration."""
    main(["fit", "--config", str(config)])
    (run,) = (config.parent / "runs" / "tiny").iterdir()
    return run


@pytest.fixture(scope="module")
def calibrated(fresh, tmp_path_factory):
    """A copy of the run, calibrated in place."""
    run = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(fresh, run)
    calibrate(str(run), min_group_prob=0.3, max_width=60.0, policies=[AgePolicy(50, **LOOSE)])
    return run


def best(run) -> dict:
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path, value


def test_everything_but_the_calibration_stays_bit_by_bit(fresh, calibrated):
    before, after = dict(leaves(best(fresh))), dict(leaves(best(calibrated)))
    added = after.keys() - before.keys()
    assert {path[0] for path in added} == {"calibration"}
    assert before.keys() <= after.keys()
    for path, value in before.items():
        same = torch.equal(value, after[path]) if isinstance(value, torch.Tensor) else value == after[path]
        assert same, path
    assert not list(calibrated.rglob("*-partial"))


def test_the_record_says_what_was_fitted_on_what(calibrated):
    recorded = best(calibrated)["calibration"]
    data = best(calibrated)["provenance"]
    on = recorded["fitted_on"]
    assert on["fingerprint"] == data["fingerprints"]["calibration"]
    assert (on["dataset"], on["part"], on["chose_checkpoint"]) == ("synthetic-morph", "calibration", False)
    assert on["faces"] == data["faces"]["calibration"]
    assert 9 <= on["subjects"] < on["faces"]
    assert recorded["metrics"].keys() == {"calibration", "test"}
    json.dumps(recorded, allow_nan=False)


def test_a_second_calibration_replaces_the_first_and_undo_restores_the_file(fresh, calibrated, tmp_path):
    """It is fitted on what the bare network says: on calibrated sigma its scale would be 1."""
    again = calibrate(str(calibrated), out=tmp_path / "again.ckpt")
    first, second = best(calibrated)["calibration"], again.to_dict()
    assert first["sigma_scale"] != pytest.approx(1, abs=1e-3)
    thresholds = {"min_group_prob": None, "max_width": None, "policies": []}
    assert second == first | thresholds
    assert best(calibrated)["calibration"] == first, "--out leaves the checkpoint alone"
    main(["calibrate", "--ckpt_path", str(tmp_path / "again.ckpt"), "--undo=true"])
    assert torch.load(tmp_path / "again.ckpt", weights_only=True).keys() == best(fresh).keys()


def test_predict_applies_the_calibration_and_says_so(fresh, calibrated, config, tmp_path, capsys):
    folder = config.parent / "morph" / "Album2"
    files = [str(file) for file in sorted(folder.iterdir())[:12]]
    tables = []
    for run in (fresh, calibrated):
        out = ["--out", str(tmp_path / "a.parquet"), "--overwrite=true"]
        main(["predict", "--ckpt_path", str(run), *files, *out, "--num_workers", "1"])
        tables.append(pd.read_parquet(tmp_path / "a.parquet"))
    printed = capsys.readouterr().out
    assert "; not calibrated" in printed
    assert "; calibrated on the calibration part of synthetic-morph" in printed
    raw, table = tables
    recorded = best(calibrated)["calibration"]
    np.testing.assert_allclose(table["age_mean"], raw["age_mean"], atol=SINGLE)
    np.testing.assert_allclose(table["age_std"], raw["age_std"] * recorded["sigma_scale"], rtol=SINGLE)
    for level in LEVELS:
        radius = recorded["quantiles"][str(level)]
        radius = np.inf if radius is None else radius * raw["age_std"]
        percent = round(100 * level)
        np.testing.assert_allclose(table[f"age_high{percent}"], table["age_mean"] + radius, atol=1e-3)
        np.testing.assert_allclose(
            table[f"age_low{percent}_unclipped"], table["age_mean"] - radius, atol=1e-3
        )
        np.testing.assert_allclose(
            table[f"age_low{percent}"], table[f"age_low{percent}_unclipped"].clip(lower=0), rtol=0
        )
    np.testing.assert_allclose(
        np.log(table["gender_male"] / table["gender_female"]) * recorded["temperatures"]["gender"],
        np.log(raw["gender_male"] / raw["gender_female"]),
        atol=1e-3,
    )
    edges = np.array([-np.inf, *AGE_GROUP_EDGES, np.inf])
    mean, std = (table[name].to_numpy()[:, None] for name in ("age_mean", "age_std"))
    likeliest = np.diff(norm.cdf(edges, mean, std), axis=1).max(1)
    unsure = (table["age_high90"] - table["age_low90_unclipped"] > 60) | (likeliest < 0.3)
    assert table["unsure"].tolist() == unsure.tolist()
    (policy,) = recorded["policies"]
    ends = [-np.inf if policy["no_below"] is None else policy["no_below"]]
    ends.append(np.inf if policy["yes_from"] is None else policy["yes_from"])
    assert table["over_50"].tolist() == [DECISIONS[at] for at in np.digitize(table["age_mean"], ends)]
    assert policy["metrics"].keys() == {"calibration", "test"}
    assert not {"unsure", "over_50"} & set(raw)


@pytest.mark.slow
def test_test_reports_the_calibrated_metrics_and_says_so(calibrated, capsys, tmp_path):
    main(["test", "--ckpt_path", str(calibrated), "--trainer.default_root_dir", str(tmp_path)])
    (run,) = (tmp_path / "tiny").iterdir()
    written = json.loads((run / "run.json").read_text())
    recorded = best(calibrated)["calibration"]
    assert written["calibration"] == recorded
    assert "test metrics: calibrated on the calibration part of synthetic-morph" in capsys.readouterr().out
    expected = recorded["metrics"]["test"]["after"]
    for level, coverage in expected["coverage"].items():
        assert written["test"][f"test/age_coverage{level}"] == pytest.approx(coverage, abs=1e-9)
    assert written["test"]["test/age_nll"] == pytest.approx(expected["age_nll"], abs=SINGLE)
    assert written["test"]["test/gender_ece"] == pytest.approx(expected["gender_ece"], abs=SINGLE)

    faces = pd.read_parquet(run / "predictions" / "test.parquet")
    covered = (faces["age_low80"] <= faces["label_age_low"]) & (
        faces["label_age_high"] <= faces["age_high80"]
    )
    assert expected["coverage"]["80"] == pytest.approx(covered.mean())
    by_subject = covered.groupby(faces["subject"]).mean().mean()
    assert expected["coverage_by_subject"]["80"] == pytest.approx(by_subject)
    assert expected["subjects"] == faces["subject"].nunique()


@pytest.mark.slow
def test_mirrored_faces_are_calibrated_tested_and_predicted_alike(calibrated, tmp_path, capsys):
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    file.parent.mkdir(parents=True)
    shutil.copy(calibrated / "config.yaml", tmp_path / "run")
    main(["calibrate", "--ckpt_path", str(calibrated), "--flip_test", "true", "--out", str(file)])
    model, bare = MTMSA.load(file), MTMSA.load(calibrated / "checkpoints" / "best.ckpt")
    assert model.flip_test
    assert model.calibration.fitted_on["flip_test"]
    assert not bare.flip_test
    assert model.calibration.sigma_scale != bare.calibration.sigma_scale
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images).age_raw, model(images.flip(-1)).age_raw)
    place = ["--trainer.default_root_dir", str(tmp_path / "tests"), "--allow_overlap", "true"]
    main(["test", "--ckpt_path", str(tmp_path / "run"), *place])
    assert "calibrate again" not in capsys.readouterr().out
    main(["test", "--ckpt_path", str(tmp_path / "run"), "--model.flip_test", "false", *place])
    assert "fitted with model.flip_test True, this test has False: calibrate again" in capsys.readouterr().out


def test_training_on_drops_the_calibration(calibrated, config, tmp_path):
    place = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "2"]
    last = shutil.copy(calibrated / "checkpoints" / "last.ckpt", tmp_path / "continued.ckpt")
    main(["calibrate", "--config", str(config), "--ckpt_path", str(last)])
    assert "calibration" in torch.load(last, weights_only=True)
    main(["fit", "--config", str(config), "--ckpt_path", str(last), *place])
    (run,) = (tmp_path / "tiny").iterdir()
    for name in ("best.ckpt", "last.ckpt"):
        assert "calibration" not in torch.load(run / "checkpoints" / name, weights_only=True)


@pytest.mark.slow
def test_the_validation_part_may_calibrate_and_it_is_said(fresh, tmp_path, capsys):
    main(["calibrate", "--ckpt_path", str(fresh), "--part", "val", "--out", str(tmp_path / "x.ckpt")])
    printed = capsys.readouterr().out
    assert "which also chose the checkpoint: coverage may be low" in printed
    model = MTMSA.load(tmp_path / "x.ckpt")
    assert model.calibration.fitted_on["chose_checkpoint"]
    assert "which also chose the checkpoint" in model.calibration.describe()
    assert "subjects are too few" in printed, "for 95 % it takes 19"
    low, high = model.calibrated(model(torch.zeros(2, 3, 64, 64))).age.interval(0.95)
    assert torch.isinf(low).all()
    assert torch.isinf(high).all()


def test_what_quotes_metrics_says_whether_they_are_from_before_the_calibration(fresh, tmp_path):
    run = Path(shutil.copytree(fresh, tmp_path / "run"))
    file = run / "checkpoints" / "best.ckpt"
    metrics = {"val": {"val/age_mae": 9.0}, "test": {"test/age_nll": 4.0}, "calibration": None}
    update_record(run, metrics | {"weights": weights_digest(best(run)["state_dict"])})
    report = run / "evaluation"
    report.mkdir()
    update_record(report, metrics | {"checkpoint": str(file)})
    (report / "MODEL_CARD.md").write_text(card_of_checkpoint(file, report))
    AgeEstimator.from_pretrained(run, device="cpu").save_pretrained(tmp_path / "folder")
    cards = report / "MODEL_CARD.md", tmp_path / "folder" / "README.md"

    def marked() -> list[bool]:
        texts = [*(card.read_text() for card in cards), card_of_checkpoint(file)]
        assert all("| age NLL (nats) | 4.00 |" in text for text in texts)
        return ["before the calibration" in t or "calibration was changed" in t for t in texts]

    assert marked() == [False] * 3
    calibrate(str(run))
    calibrate(str(tmp_path / "folder"), ["--config", str(run / "config.yaml")])
    assert marked() == [True] * 3
    for card in cards:
        assert "Calibrated on the calibration part of synthetic-morph" in card.read_text()
    for place in (run, tmp_path / "folder"):
        main(["calibrate", "--ckpt_path", str(place), "--undo=true"])
    assert marked() == [False, True, False], "whose records are not at hand"
    for card in cards:
        assert card.read_text().count("Not calibrated: intervals") == 1


def test_another_datasets_faces_calibrate_only_when_it_is_meant(fails, fresh, tmp_path):
    write_utkface(tmp_path / "utkface", n_faces=60, size=72)
    other = [
        "--ckpt_path", fresh, "--data", "UTKFace", "--data.root", tmp_path / "utkface",
        "--data.image_size", 64, "--data.num_workers", 0, "--data.protocol", "random",
        "--part", "val", "--out", tmp_path / "x.ckpt",
    ]  # fmt: skip
    assert "pass --other_data" in fails("calibrate", *other)
    main([str(arg) for arg in ("calibrate", *other, "--other_data=true")])
    on = MTMSA.load(tmp_path / "x.ckpt").calibration.fitted_on
    assert (on["dataset"], on["chose_checkpoint"]) == ("synthetic-utkface", False)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data.calibration_fraction", "0.7"], "calibration faces were trained on by this checkpoint"),
        (["--data.fold", "1"], "were trained on by this checkpoint"),
        (["--data.calibration_fraction", "0", "--part", "calibration"], "the calibration part is empty"),
        (["--part", "val", "--max_width", "20"], "at least 9 subjects"),
        (["--max_width", "0"], "--max_width: must be a number above 0, not '0'"),
        (["--min_group_prob", "1.5"], "--min_group_prob: must be a number between 0 and 1, not '1.5'"),
        (["--max_fpr", "0.1"], "--max_fpr is of no use without --legal_age"),
        (["--legal_age", "30", "--max_fpr", "5%"], "--max_fpr: must be a number between 0 and 1, not '5%'"),
        (["--legal_age", "30", "--confidence", "0.9", "--on_average", "true"], "exclude each other"),
        (["--legal_age", "30"], "takes 299 subjects aged 25 to 29 without a single error; the calibration"),
        (["--model.msa", "null"], "the network is the checkpoint's"),
        (["--data.fodl", "1"], "did you mean --data.fold?"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--accelerator", "abacus"], "abacus"),
    ],
)
def test_mistakes_come_before_any_work_and_leave_the_file_alone(fails, fresh, args, said):
    assert said in fails("calibrate", "--ckpt_path", fresh, *args)
    assert "calibration" not in best(fresh)


@pytest.mark.parametrize("wrong", [{"max_fpr": 1.0}, {"confidence": 0.0}])
def test_policies_out_of_range_come_before_any_work(fresh, wrong):
    with pytest.raises(ConfigError, match=f"--{next(iter(wrong))}"):
        calibrate(str(fresh), policies=[AgePolicy(30, **wrong)])


def test_a_checkpoint_outside_of_a_run_needs_a_config(fails, fresh, tmp_path):
    file = shutil.copy(fresh / "checkpoints" / "best.ckpt", tmp_path / "x.ckpt")
    assert "name the data with --config" in fails("calibrate", "--ckpt_path", file)
    store(str(file), None)
    assert torch.load(file, weights_only=True).keys() == best(fresh).keys()


def test_a_fit_in_python_drops_the_calibration_too(calibrated, config):
    model = MTMSA.load(calibrated).train()
    assert model.calibration is not None
    data = MORPH(**yaml.safe_load(config.read_text())["data"]["init_args"])
    quiet = {
        "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "use_distributed_sampler": False,
    }  # fmt: skip
    Trainer(max_steps=1, limit_val_batches=0, **quiet).fit(model, data)
    assert model.calibration is None
