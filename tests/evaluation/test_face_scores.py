import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mtmsa_lightning.evaluation.comparison import holm
from mtmsa_lightning.evaluation.face_scores import face_scores, metrics_of_means, read_faces
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.table_metrics import scalars
from mtmsa_lightning.labels import AGE_GROUPS


def test_means_of_scores_are_the_metrics_of_the_run(trained):
    predictions = read_predictions(trained / "predictions" / "test.parquet")
    scores = face_scores(predictions)
    metrics = metrics_of_means(list(scores), scores.mean().to_numpy())
    recorded = json.loads((trained / "run.json").read_text())["test"]
    computed = scalars(predictions)
    assert {"age_mae", "age_rmse", "age_nll", "gender_acc", "race_acc"} <= set(scores)
    for name, value in zip(scores, metrics, strict=True):
        assert value == pytest.approx(recorded[f"test/{name}"], abs=1e-5), name
        assert value == pytest.approx(computed[name]), name


def test_scores_of_three_faces_by_hand():
    faces = pd.DataFrame({
        "id": ["a", "b", "c"], "label_age_low": [30.0, 25.0, np.nan], "label_age_high": [30.0, 32.0, np.nan],
        "label_gender": ["male", "", "female"], "age_mean": [33.0, 20.0, 50.0], "age_std": [2.0, 4.0, 5.0],
        "gender_male": [0.8, 0.7, 0.4], "gender_female": [0.2, 0.3, 0.6],
        **{f"group_{low}_{high}": 1 / 8 for low, high in AGE_GROUPS},
    })  # fmt: skip
    scores = face_scores(read_predictions(faces))
    nan = np.nan
    np.testing.assert_allclose(scores["age_mae"], [3, nan, nan])
    np.testing.assert_allclose(scores["age_cs5"], [1, nan, nan])
    np.testing.assert_allclose(scores["age_nll"], [-stats.norm(33, 2).logpdf(30), nan, nan])
    mass = np.diff(stats.norm(20, 4).cdf([24.5, 32.5]))[0]
    np.testing.assert_allclose(scores["age_interval_nll"], [nan, -np.log(mass), nan])
    np.testing.assert_allclose(scores["group_acc"], [1, 0, nan])
    np.testing.assert_allclose(scores["group_acc_1off"], [1, 1, nan])
    np.testing.assert_allclose(scores["gender_acc"], [1, nan, 1])
    assert "race_acc" not in scores


def test_a_csv_reads_like_its_parquet(trained, tmp_path):
    table = pd.read_parquet(trained / "predictions" / "test.parquet")
    table.to_csv(tmp_path / "test.csv", index=False)
    again = read_faces(tmp_path / "test.csv")
    pd.testing.assert_frame_equal(
        again, read_faces(trained / "predictions" / "test.parquet"), check_dtype=False
    )


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    assert holm([0.2]).tolist() == [0.2]
    np.testing.assert_allclose(holm([np.nan, 0.02, 0.03]), [np.nan, 0.04, 0.04])
