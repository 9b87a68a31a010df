"""Every shipped config on a synthetic release in the layout of the real one: fit, test, predict."""

import json

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data import synthetic
from mtmsa_lightning.labels import AGE_GROUP_EDGES, AGE_GROUPS

SMALL = [
    "--data.image_size", "64", "--data.batch_size", "8", "--data.num_workers", "0",
    "--model.weights", "null",
    "--model.msa.rates", "[1]", "--model.msa.stages", "[1]", "--wandb", "disabled",
    "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.accelerator", "cpu",
]  # fmt: skip


def fit(config, root, where, *args):
    """Run the verb and return the record and the predictions."""
    place = ["--data.root", str(root), "--trainer.default_root_dir", str(where)]
    main(["fit", "--config", config, *SMALL, *place, *args])
    (run,) = where.glob("*/*")
    return json.loads((run / "run.json").read_text()), pd.read_parquet(run / "predictions" / "test.parquet")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    def write(layout, n_faces=80):
        root = tmp_path_factory.mktemp("release") / layout
        getattr(synthetic, f"write_{layout}")(root, n_faces=n_faces, size=72)
        return root

    return write


@pytest.mark.slow
def test_adience_learns_from_groups_and_reports_no_race(release, tmp_path):
    record, faces = fit("adience.yaml", release("adience"), tmp_path)
    assert record["data"]["label_rule"] == "adience canonical"
    assert record["monitor"] == "val/group_acc"
    assert {"test/group_acc", "test/group_acc_1off", "test/age_interval_nll"} <= record["test"].keys()
    assert not [name for name in record["test"] if "race" in name or name in ("test/age_mae", "test/age_cs5")]
    assert not [name for name in faces if name.startswith("race_")]

    groups = faces[[f"group_{low}_{high}" for low, high in AGE_GROUPS]].to_numpy()
    np.testing.assert_allclose(groups.sum(axis=1), 1, atol=1e-9)
    middle = (faces["label_age_low"] + faces["label_age_high"]) / 2
    distance = np.abs(groups.argmax(axis=1) - np.searchsorted(AGE_GROUP_EDGES, middle))
    assert record["test"]["test/group_acc"] == pytest.approx((distance == 0).mean())
    assert record["test"]["test/group_acc_1off"] == pytest.approx((distance <= 1).mean())


@pytest.mark.slow
def test_utkface_splits_at_random_and_keeps_copies_together(release, tmp_path):
    record, faces = fit("utkface.yaml", release("utkface"), tmp_path)
    assert record["data"]["protocol"] == "random"
    assert record["data"]["rows"]["dropped"] == {"name lacks a field": 1}
    assert {"test/age_mae", "test/gender_acc", "test/race_acc"} <= record["test"].keys()
    assert faces["id"].str.startswith("utkface/").all()


@pytest.mark.slow
def test_a_table_of_ones_own_faces(release, tmp_path):
    """Semicolons, other column names, no race: the README's recipe."""
    root = release("utkface")
    files = sorted((root / "UTKFace").iterdir())[:60]
    rows = [
        f"UTKFace/{file.name};{file.name.split('_')[0]};{'mf'[number % 2]}"
        for number, file in enumerate(files)
    ]
    (root / "mine.csv").write_text("\n".join(["datei;alter;gender", *rows]))
    columns = '{"path": "datei", "age": "alter"}'
    own = ["--data", "FaceCSV", "--data.table", "mine.csv", "--data.columns", columns, "--name", "mine"]
    record, faces = fit("utkface.yaml", root, tmp_path, *own)
    assert record["data"]["race_classes"] == []
    assert {"test/age_mae", "test/gender_acc"} <= record["test"].keys()
    assert not [name for name in faces if name.startswith("race_")]


@pytest.mark.slow
def test_morph_crops_raw_photos_and_says_so(release, tmp_path, capsys):
    record, _ = fit("morph.yaml", release("morph"), tmp_path, "--data.fold", "3")
    assert record["data"]["crop"] == 0.85
    assert record["data"]["fold"] == 3
    assert "central square of 85 %" in capsys.readouterr().out
