"""Several networks as one: in the estimator, in predictions, reports and exported files."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from mtmsa_lightning import AgeEstimator, DLDLAgeHead
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.evaluation.comparison import read_contender
from mtmsa_lightning.models.distributions import MixtureAge
from mtmsa_lightning.runs.ensemble import Ensemble

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def networks(new_network, calibration):
    """Two networks with the races in another order, one calibrated, one of another input size."""
    first, second = new_network(1), new_network(2, race_classes=("asian", "white", "black"), image_size=72)
    first.calibration = calibration
    return [first, second]


@pytest.fixture(scope="module")
def files(networks, save, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return [str(save(network, folder / f"{number}.ckpt")) for number, network in enumerate(networks)]


def test_an_estimator_of_several_is_the_mixture_of_their_calibrated_predictions(files):
    mixed = AgeEstimator.from_pretrained(files, device="cpu")(list(IMAGES), detect=False)
    each = [AgeEstimator.from_pretrained(file, device="cpu")(list(IMAGES), detect=False) for file in files]
    for (face,), (first,), (_,) in zip(mixed, *each, strict=True):
        assert isinstance(face.age.distribution, MixtureAge)
        part = face.age.distribution.parts[0]
        assert float(part.mean) == pytest.approx(first.age.mean, abs=1e-4)
        assert float(part.std) == pytest.approx(first.age.std, abs=1e-4)
        means, stds = (
            np.array([float(getattr(part, name)) for part in face.age.distribution.parts])
            for name in ("mean", "std")
        )
        row = face.to_dict()
        assert row["age_mean"] == pytest.approx(means.mean())
        assert row["age_std_within"] ** 2 == pytest.approx((stds**2).mean())
        assert row["age_std_between"] ** 2 == pytest.approx(means.var())
        assert row["age_std"] ** 2 == pytest.approx((stds**2).mean() + means.var())
        assert list(face.race.probabilities) == ["white", "black", "asian"]
        assert sum(face.race.probabilities.values()) == pytest.approx(1)


def test_classes_are_mixed_by_name(networks):
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    ensemble = Ensemble({"a": networks[0], "b": networks[1]}).eval()
    with torch.inference_mode():
        found = ensemble.trained_logits(ensemble(images))["race"].softmax(1)
        first, second = (
            ensemble.matched(each, each.calibrated(each(ensemble.resized(each, images)))).race.softmax(1)
            for each in networks
        )
        raw = networks[1].calibrated(networks[1](ensemble.resized(networks[1], images))).race.softmax(1)
    torch.testing.assert_close(found, (first.double() + second) / 2)
    torch.testing.assert_close(second, raw[:, [1, 2, 0]])


def test_networks_that_differ_are_no_ensemble(new_network, networks):
    for settings, message in (
        ({"race_classes": ("white", "black", "other")}, "race classes asian, black, white and black, other"),
        ({"crop": 0.5}, "crops 1.0 and 0.5"),
        ({"age": None}, "age heads True and False"),
        ({"race": None}, "tasks gender, race and gender"),
    ):
        with pytest.raises(ConfigError, match=f"a and b are no ensemble: {message}"):
            Ensemble({"a": networks[0], "b": new_network(3, **settings)})
    with pytest.raises(ConfigError, match="needs two different networks"):
        Ensemble({"a": networks[0]})


def test_heads_may_differ(new_network, networks):
    ensemble = Ensemble({"a": networks[0], "b": new_network(4, age=DLDLAgeHead)}).eval()
    with torch.inference_mode():
        age = ensemble(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).age
    assert age.std_between.isfinite().all()
    assert age.crps(30.0).isfinite().all()


def test_predict_takes_several_and_tells_them_from_photos(files, tmp_path, fails):
    for number, image in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    out = tmp_path / "ages.csv"
    main(["predict", "--ckpt_path", *files, str(tmp_path), "--detect", "false", "--out", str(out)])
    table = pd.read_csv(out)
    assert len(table) == 3
    assert {"age_std", "age_std_within", "age_std_between"} <= set(table)
    assert not [name for name in table if name.startswith("age1")]
    np.testing.assert_allclose(
        table["age_std"], np.hypot(table["age_std_within"], table["age_std_between"]), atol=0.02
    )
    record = json.loads((tmp_path / "ages.record.json").read_text())
    assert record["checkpoint"] == files
    assert "give paths of images" in fails("predict", "--ckpt_path", *files)


def test_a_report_on_several(trained, tiny_config, undrawn, tmp_path, capsys):
    """The same network twice, whose metrics do not change."""
    checkpoint, out = str(tmp_path / "copy.ckpt"), tmp_path / "report"
    shutil.copy(trained / "checkpoints" / "best.ckpt", checkpoint)
    main(["evaluate", "--ckpt_path", str(trained), checkpoint, "--out", str(out), "--faces", "false"])
    printed = capsys.readouterr().out
    assert "0.00 years between them" in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["faces"] == 15
    alone = json.loads((trained / "run.json").read_text())["test"]
    for name in ("age_mae", "age_nll", "age_crps", "age_coverage90", "gender_acc", "race_ece"):
        assert metrics["scalars"][name] == pytest.approx(alone[f"test/{name}"], abs=1e-3), name
    page = (out / "report.html").read_text()
    assert "The predictions are the mixture of 2 networks with equal weights" in page
    assert read_contender(out).tables[0]["age_std_between"].max() < 1e-3
