"""``mtmsa calibrate`` of several networks as one; the fit is recomputed by numpy and scipy."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm

from mtmsa_lightning import MORPH, MTMSA, AgeEstimator
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.release_files import hash_ids
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.models.distributions import distribution_columns, distribution_from_columns
from mtmsa_lightning.runs.ensemble_folder import read_ensemble
from mtmsa_lightning.training import ensemble as evaluating
from mtmsa_lightning.training.calibrating import calibrate

LOOSE = AgePolicy(35, max_fpr=0.45, confidence=0.5, near_years=30)


@pytest.fixture(scope="module")
def data(morph_root):
    part = MORPH(
        root=str(morph_root), image_size=64, crop=1.0, batch_size=32, num_workers=0, calibration_fraction=0.4
    )
    part.prepare_data()
    part.setup("test")
    return part


@pytest.fixture(scope="module")
def data_args(morph_root):
    return [
        "--data=MORPH", f"--data.root={morph_root}", "--data.image_size=64", "--data.crop=1.0",
        "--data.num_workers=0", "--data.calibration_fraction=0.4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def files(new_network, record, calibration, save, tmp_path_factory):
    """Two networks, one of them calibrated by itself, which must not matter."""
    folder, found = tmp_path_factory.mktemp("members"), []
    for seed in (1, 2):
        network = new_network(seed)
        network.age.set_age_statistics(30.0 + 4 * seed, 9.0)
        network.provenance = record(dataset="synthetic-morph")
        network.calibration = calibration if seed == 1 else None
        found.append(str(save(network, folder / f"{seed}.ckpt")))
    return found


@pytest.fixture(scope="module")
def fitted(files, data_args, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent") / "ensemble"
    calibrate(files, data_args, out=folder, policies=[LOOSE], accelerator="cpu", max_width=80.0)
    return folder


@pytest.fixture(scope="module")
def raw(files, data):
    """Uncalibrated outputs of each network for the calibration faces, as arrays, and their labels."""
    (batch,) = data.part_dataloader("calibration")
    found = []
    for file in files:
        network = MTMSA.load(file)
        with torch.inference_mode():
            output = network(batch["image"])
        probs = network.trained_logits(output)["gender"].double().softmax(1)
        found.append([each.double().numpy() for each in (output.age.mean, output.age.std, probs)])
    mean, std, probs = (np.stack(each) for each in zip(*found, strict=True))
    return mean, std, probs, batch["age_low"].double().numpy(), batch["gender"].numpy()


def test_the_mixture_of_uncalibrated_networks_is_calibrated(fitted, raw):
    mean, std, probs, age, gender = raw
    found = Calibration.from_dict(json.loads((fitted / "ensemble.json").read_text())["calibration"])
    centre = mean.mean(0)
    total = np.sqrt((std**2).mean(0) + mean.var(0))

    def loss(log_scale):
        inner = centre + (age - centre) / np.exp(log_scale)
        return -(logsumexp(norm.logpdf(inner, mean, std), axis=0) - np.log(2) - log_scale).sum()

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert found.sigma_scale == pytest.approx(np.exp(best.x), rel=1e-3)

    def entropy(log_temperature):
        logits = np.log(probs.mean(0)) / np.exp(log_temperature)
        return -(logits - logsumexp(logits, axis=1, keepdims=True))[np.arange(len(gender)), gender].sum()

    best = minimize_scalar(entropy, bounds=np.log((0.05, 20.0)), method="bounded", options={"xatol": 1e-8})
    assert found.temperatures["gender"] == pytest.approx(np.exp(best.x), rel=1e-2)
    scores = np.abs(age - centre) / total
    for quantile in found.quantiles.values():
        assert np.isinf(quantile) or np.abs(scores - quantile).min() < 1e-4
    covered = scores <= found.quantiles[0.5] + 1e-6
    assert 0.3 < covered.mean() < 0.8
    assert found.fitted_on["faces"] == len(age)


def test_the_folder_is_a_name_of_the_calibrated_mixture(fitted, files, data, raw, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in files:  # the paths are relative
        shutil.copy(file, moved)
    text = (fitted / "ensemble.json").read_text()
    for number in (1, 2):
        name = json.loads(text)["networks"][number - 1]["checkpoint"]
        assert not name.startswith("/")
        text = text.replace(name, f"../{number}.ckpt")
    folder = moved / "ensemble"
    folder.mkdir()
    (folder / "ensemble.json").write_text(text)
    estimator = AgeEstimator.from_pretrained(folder, device="cpu")
    found = estimator.model.calibration
    (batch,) = data.part_dataloader("calibration")
    image = batch["image"][0].permute(1, 2, 0).numpy()
    (face,) = estimator(image, detect=False)
    mean, std = raw[0][:, 0], raw[1][:, 0]
    total = np.sqrt((std**2).mean() + mean.var())
    row = face.to_dict()
    assert row["age_mean"] == pytest.approx(max(mean.mean(), 0), abs=1e-3)
    assert row["age_std"] == pytest.approx(found.sigma_scale * total, rel=1e-4)
    assert row["age_std_between"] == pytest.approx(found.sigma_scale * mean.std(), rel=1e-3)
    assert face.age.interval(0.5)[1] == pytest.approx(mean.mean() + found.quantiles[0.5] * total, rel=1e-4)
    policy = found.policies[0]
    over = row["over_35"]
    assert (over == "yes") == (policy.yes_from is not None and mean.mean() >= policy.yes_from)
    shares = np.exp(np.log(raw[2].mean(0)[0]) / found.temperatures["gender"])
    assert list(face.gender.probabilities.values()) == pytest.approx(list(shares / shares.sum()), abs=1e-4)


def test_predict_writes_the_columns_of_the_mixture(fitted, tmp_path):
    image = np.full((64, 64, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), image)
    out = tmp_path / "ages.csv"
    main(["predict", "--ckpt_path", str(fitted), str(tmp_path), "--detect", "false", "--out", str(out)])
    names = out.read_text().partition("\n")[0].split(",")
    assert {"age_std_within", "age_std_between", "age_low50", "unsure", "over_35"} <= set(names)
    assert not [name for name in names if name.startswith(("age1", "age_mixture"))]


def test_evaluate_applies_the_calibration(fitted, data_args, tmp_path, monkeypatch):
    """The table that the report is made of; the report itself is tested elsewhere."""
    given = {}

    def keep(table, folder, context, *_, **__):
        given.update(table=table, context=context)
        return {"scalars": {}}

    monkeypatch.setattr(evaluating, "write_report", keep)
    main(["evaluate", "--ckpt_path", str(fitted), *data_args, "--out", str(tmp_path / "report")])
    table, recorded = given["table"], read_ensemble(fitted).calibration
    columns = {
        name: torch.from_numpy(table[name].to_numpy(copy=True)) for name in distribution_columns(table)
    }
    found = distribution_from_columns(columns).log_prob(
        torch.from_numpy(table["label_age_low"].to_numpy(copy=True))
    )
    assert -found.mean() == pytest.approx(recorded["metrics"]["test"]["after"]["age_nll"], abs=1e-3)
    assert given["context"].calibration == recorded
    assert "equal weights, calibrated as one" in given["context"].notes[0]
    assert set(table["over_35"]) <= {"yes", "no", "unsure"}


def test_undo_gives_the_networks_their_own_calibrations_back(fitted, files, tmp_path):
    folder = tmp_path / "bare"
    main(["calibrate", "--ckpt_path", str(fitted), "--undo", "true", "--out", str(folder)])
    assert read_ensemble(fitted).calibration is not None, "--out leaves the folder alone"
    model = AgeEstimator.from_pretrained(folder, device="cpu").model
    assert model.calibration is None
    assert [network.calibration is None for network in model.members] == [False, True]
    assert [str(member.file) for member in read_ensemble(folder).members] == files


def test_a_network_that_changed_or_is_missing_is_named(fitted, files, tmp_path, fails, save, new_network):
    for file in files:
        shutil.copy(file, tmp_path)
    record = json.loads((fitted / "ensemble.json").read_text())
    for number, network in enumerate(record["networks"], 1):
        network["checkpoint"] = f"../{number}.ckpt"
    folder = tmp_path / "ensemble"
    folder.mkdir()
    (folder / "ensemble.json").write_text(json.dumps(record))
    save(new_network(3), tmp_path / "2.ckpt")
    with pytest.raises(CheckpointError, match=r"2\.ckpt: its weights have changed since the ensemble"):
        AgeEstimator.from_pretrained(folder, device="cpu")
    (tmp_path / "1.ckpt").unlink()
    for command in (["predict", "--ckpt_path", folder, tmp_path], ["calibrate", "--ckpt_path", folder]):
        assert "1.ckpt does not exist" in fails(*command)
    (folder / "ensemble.json").write_text(json.dumps(record | {"format_version": 2}))
    assert "has format version 2" in fails("export", "--ckpt_path", folder, "--format", "onnx")
    (folder / "ensemble.json").write_text("{")
    assert "not the record of an ensemble" in fails("export", "--ckpt_path", folder, "--format", "onnx")


def test_faces_that_any_network_was_trained_on_do_not_calibrate(
    files, data, data_args, new_network, record, save, tmp_path, fails
):
    network = new_network(2)
    ids = data.calibration_dataset.table["id"].tolist()[:2]
    hashes = torch.from_numpy(hash_ids(ids).view(np.int64))
    network.provenance = record(dataset="synthetic-morph", train_id_hashes=hashes)
    other = save(network, tmp_path / "seen.ckpt")
    message = fails("calibrate", "--ckpt_path", files[0], other, *data_args, "--out", tmp_path / "out")
    assert "2 of" in message
    assert "calibration faces were trained on by this checkpoint" in message
    assert not (tmp_path / "out").exists()


def test_mistakes_come_before_any_work(fitted, files, data_args, tmp_path, fails):
    assert "name a folder" in fails("calibrate", "--ckpt_path", *files, *data_args)
    (tmp_path / "notes.txt").touch()
    out = ["--out", tmp_path]
    assert "holds other files" in fails("calibrate", "--ckpt_path", *files, *data_args, *out)
    several = fails("predict", "--ckpt_path", fitted, files[0], tmp_path)
    assert "is an ensemble" in several
    assert "one network is needed" in fails("test", "--ckpt_path", fitted, *data_args)
