"""Checkpoints of one dataset on another: what counts, what is masked, and that the network stays its own."""

import json

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch import Trainer
from scipy.stats import norm

from mtmsa_lightning import MORPH, MTMSA, Adience, MSAConfig, UTKFace
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data import synthetic
from mtmsa_lightning.data.training_hashes import training_hashes
from mtmsa_lightning.labels import AGE_GROUP_EDGES, AGE_GROUPS

DATASETS = {"morph": MORPH, "adience": Adience, "utkface": UTKFace}
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    for name in DATASETS:
        getattr(synthetic, f"write_{name}")(folder / name, n_faces=60, seed=6, size=72)
    return folder


def data_of(name, roots):
    arguments = {"image_size": 64, "batch_size": 16, "num_workers": 0, "crop": 1.0}
    return DATASETS[name](root=str(roots / name), **arguments)


@pytest.fixture(scope="module")
def checkpoints(roots, tmp_path_factory):
    """An untrained network per dataset, with the classes, groups and provenance of its data."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in DATASETS:
        data = data_of(name, roots)
        data.setup()
        model = MTMSA(
            msa=MSAConfig(rates=(1,), stages=(1,)),
            image_size=64,
            race_classes=data.race_classes,
            age_groups=data.age_groups,
        )
        model.age.set_age_statistics(35, 20)
        model.provenance = data.provenance() | training_hashes(data)
        model.trainer = trainer = Trainer(**QUIET)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(folder / f"{name}.ckpt")
    return folder


@pytest.fixture
def tested(roots, checkpoints, tmp_path, capsys):
    """Test a checkpoint on another dataset by that dataset's shipped config."""

    def run(trained, on, *args):
        main([
            "test", "--ckpt_path", str(checkpoints / f"{trained}.ckpt"), "--config", f"{on}.yaml",
            "--data.root", str(roots / on), "--data.image_size", "64", "--data.batch_size", "16",
            "--data.num_workers", "0", "--trainer.accelerator", "cpu", "--wandb", "disabled",
            "--trainer.default_root_dir", str(tmp_path), *args,
        ])  # fmt: skip
        (where,) = (tmp_path / on).iterdir()
        record = json.loads((where / "run.json").read_text())
        return record, pd.read_parquet(where / "predictions" / "test.parquet"), capsys.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["morph", "utkface"])
def test_exact_ages_decide_groups_by_their_mass(tested, trained):
    record, faces, _ = tested(trained, "adience")
    edges = np.array([-np.inf, *AGE_GROUP_EDGES, np.inf])
    mean, std = (faces[name].to_numpy()[:, None] for name in ("age_mean_unclipped", "age_std"))
    mass = np.diff(norm.cdf(edges, mean, std), axis=1)
    np.testing.assert_allclose(faces[[f"group_{low}_{high}" for low, high in AGE_GROUPS]], mass, atol=1e-9)
    distance = np.abs(mass.argmax(1) - [AGE_GROUPS.index(pair) for pair in _labels(faces)])
    metrics = record["test"]
    assert metrics["test/group_acc"] == pytest.approx((distance == 0).mean())
    assert metrics["test/group_acc_1off"] == pytest.approx((distance <= 1).mean())
    assert not [name for name in metrics if "race" in name or name == "test/age_mae"]
    assert record["trained_on"]["dataset"] == f"synthetic-{trained}"
    assert record["data"]["dataset"] == "synthetic-adience"
    assert record["masked_classes"] == {}
    assert [name for name in faces if name.startswith("race_")], (
        "the config's `race: null` is not the network's"
    )


def _labels(faces):
    return zip(faces["label_age_low"].astype(int), faces["label_age_high"].astype(int), strict=True)


@pytest.mark.slow
def test_groups_learnt_give_exact_ages(tested):
    record, faces, _ = tested("adience", "morph")
    metrics = record["test"]
    error = (faces["age_mean_unclipped"] - faces["label_age_low"]).abs()
    assert metrics["test/age_mae"] == pytest.approx(error.mean(), abs=1e-9)
    gender = faces[["gender_male", "gender_female"]].to_numpy().argmax(1)
    accuracy = (np.array(["male", "female"])[gender] == faces["label_gender"]).mean()
    assert metrics["test/gender_acc"] == pytest.approx(accuracy, abs=1e-6)
    assert not [name for name in metrics if "race" in name or "group" in name]
    assert not [name for name in faces if name.startswith(("race_", "group_"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "on", "unknown", "absent"),
    [("utkface", "morph", "hispanic", "indian"), ("morph", "utkface", "indian", "hispanic")],
)
def test_races_that_one_side_lacks_are_masked_and_said(tested, trained, on, unknown, absent):
    record, faces, printed = tested(trained, on)
    lost = int((faces["label_race"] == unknown).sum())
    assert lost > 0
    assert record["masked_classes"] == {"race": {"unknown": {unknown: lost}, "absent": [absent]}}
    assert f"race: the checkpoint has no class {unknown}: {lost} of {len(faces)} test faces" in printed
    assert f"race: {on} has no {absent}" in printed
    assert (faces[f"race_{absent}"] == 0).all()
    names = [name.removeprefix("race_") for name in faces if name.startswith("race_")]
    probs = faces[[f"race_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(probs.sum(1), 1)
    counted = faces["label_race"].isin(names).to_numpy()
    assert counted.sum() == len(faces) - lost
    right = np.array(names)[probs.argmax(1)] == faces["label_race"]
    assert record["test"]["test/race_acc"] == pytest.approx(right[counted].mean(), abs=1e-6)
    crop = record["data"]["crop"]
    assert ("the checkpoint was trained on the central 100 % of its images" in printed) == (crop != 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "on"), [("morph", "adience"), ("adience", "morph")])
def test_python_reports_the_same_metrics_as_the_command_line(tested, checkpoints, roots, trained, on):
    record, *_ = tested(trained, on, "--data.crop", "1.0")
    data = data_of(on, roots)
    data.protocol = record["data"]["protocol"]
    model = MTMSA.load(checkpoints / f"{trained}.ckpt")
    (metrics,) = Trainer(**QUIET).test(model, data, verbose=False)
    recorded = from_json(json.dumps(record["test"]))
    assert metrics.keys() == recorded.keys()
    for name, value in metrics.items():
        assert recorded[name] == pytest.approx(value, abs=1e-4, nan_ok=True), name
