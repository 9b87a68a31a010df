"""A table in FairFace's words, from CSV through training and evaluation to ONNX and the page."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning import MTMSA
from mtmsa_lightning.app.result import predict_photo
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.inference.estimator import AgeEstimator

RACES = (
    "Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White",
)  # fmt: skip
TRAINED = (*RACES[:3], *RACES[4:])
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


def row(number, race, split):
    gender = ("Male", "Female")[number % 2]
    return f"train/{number}.jpg,{AGES[number % 9]},{gender},{race},{number % 3 == 0},{split}"


@pytest.fixture(scope="module")
def release(tmp_path_factory, draw):
    """Seven races, one of which is only in the test part."""
    root = tmp_path_factory.mktemp("fairface")
    (root / "train").mkdir()
    splits = ["train"] * 30 + ["val"] * 12 + ["test"] * 14
    races = [(RACES if split == "test" else TRAINED)[n % (7 if split == "test" else 6)]
             for n, split in enumerate(splits)]  # fmt: skip
    rows = [row(n, race, split) for n, (race, split) in enumerate(zip(races, splits, strict=True))]
    for number in range(len(rows)):
        cv2.imwrite(str(root / "train" / f"{number}.jpg"), draw(number, 72))
    (root / "label.csv").write_text("\n".join(["file,age,gender,race,service_test,split", *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def run(release, tmp_path_factory):
    """A training on the table by the shipped config."""
    where = tmp_path_factory.mktemp("runs")
    main([
        "fit", "--config", "csv.yaml", "--root", str(release), "--data.table", "label.csv",
        "--data.protocol", "predefined", "--data.image_size", "64", "--data.batch_size", "8",
        "--num_workers", "0", "--model.weights", "null", "--model.msa.rates", "[1]", "--model.msa.stages",
        "[1]", "--wandb", "disabled", "--trainer.max_epochs", "1", "--accelerator", "cpu",
        "--checkpoint.monitor", "val/age_interval_nll", "--trainer.default_root_dir", str(where),
    ])  # fmt: skip
    (folder,) = where.glob("*/*")
    return folder


@pytest.mark.slow
def test_the_network_learns_the_tables_races_and_masks_the_one_without_training_faces(run):
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["race_classes"] == list(RACES)
    assert record["data"]["trained_classes"]["race"] == list(TRAINED)
    assert record["masked_classes"] == {"race": {"unknown": {"Latino_Hispanic": 2}, "absent": []}}
    assert MTMSA.load(run).trained_classes["race"] == TRAINED
    faces = pd.read_parquet(run / "predictions" / "test.parquet")
    assert [name for name in faces if name.startswith("race_")] == [f"race_{race}" for race in TRAINED]
    assert set(faces["label_race"]) == set(RACES)
    known = faces["label_race"] != "Latino_Hispanic"
    predicted = np.array(TRAINED)[faces[[f"race_{race}" for race in TRAINED]].to_numpy().argmax(1)]
    accuracy = (predicted == faces["label_race"])[known].mean()
    assert record["test"]["test/race_acc"] == pytest.approx(accuracy, abs=1e-6)
    assert faces["label_age_high"].max() == 100


@pytest.mark.slow
def test_reports_and_other_commands_take_the_races(run, release, tmp_path, capsys, undrawn):
    main(["evaluate", "--ckpt_path", str(run), "--root", str(release), "--accelerator", "cpu"])
    subgroups = pd.read_csv(next(run.rglob("subgroups.csv")), keep_default_na=False)
    assert set(subgroups["race"]) == {"", *RACES}
    main(["calibrate", "--ckpt_path", str(run), "--accelerator", "cpu", "--num_workers", "0"])
    main(["compare", str(run), str(run)])
    photo = str(release / "train" / "0.jpg")
    main(["predict", "--ckpt_path", str(run), photo, "--out", str(tmp_path / "p.csv")])
    (face,) = pd.read_csv(tmp_path / "p.csv").to_dict("records")
    assert face["race"] == max(TRAINED, key=lambda race: face[f"race_{race}"])


@pytest.mark.slow
def test_onnx_file_and_page_give_the_races_of_the_table(run, release, portrait):
    main(["export", "--ckpt_path", str(run), "--format", "onnx", "--out", str(run / "export" / "it.onnx")])
    (file,) = (run / "export").glob("*.onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert about["race_classes"] == about["classes"]["race_probs"] == list(TRAINED)
    image = cv2.resize(cv2.imread(str(release / "train" / "0.jpg"))[..., ::-1], (64, 64))
    probs = session.run(["race_probs"], {"images": image.transpose(2, 0, 1)[None]})[0]
    assert probs.shape == (1, 6)

    estimator = AgeEstimator(MTMSA.load(run), device="cpu")
    html = predict_photo(estimator, cv2.imencode(".png", portrait[..., ::-1])[1].tobytes(), "one.png")
    for race in RACES:
        assert (f'<th scope="row">{race}</th>' in html) == (race != "Latino_Hispanic")
