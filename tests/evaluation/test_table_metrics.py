import json

import numpy as np
import pytest
from prediction_tables import table_of
from scipy.stats import norm

from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.table_metrics import compute_metrics
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.runs.run_json import read_record


@pytest.fixture
def table():
    return table_of()


def test_the_metrics_of_a_runs_predictions_are_those_that_the_run_logged(trained):
    json.loads((trained / "run.json").read_text(), parse_constant=pytest.fail)
    logged = read_record(trained)["test"]
    losses = {name for name in logged if name.endswith("loss")}
    found = compute_metrics(read_predictions(trained / "predictions" / "test.parquet"))["scalars"]
    assert {f"test/{name}" for name in found} == logged.keys() - losses
    for name, value in found.items():
        assert value == pytest.approx(logged[f"test/{name}"], abs=1e-6, nan_ok=True), name
    assert np.isnan(found["age_worst_decade_mae"]), "no decade has 50 of these few faces"


def test_curves_are_plain_and_agree_with_numpy(table):
    found = compute_metrics(read_predictions(table))
    assert from_json(to_json(found)) == found
    error = np.abs(table["age_mean"] - table["label_age_low"]).to_numpy()
    curves = found["curves"]
    assert curves["cumulative_score"]["years"] == list(range(31))
    np.testing.assert_allclose(curves["cumulative_score"]["share"], [(error <= n).mean() for n in range(31)])

    z = norm.ppf(0.5 + np.array(curves["interval_coverage"]["level"]) / 2)
    std = table["age_std"].to_numpy()
    np.testing.assert_allclose(
        curves["interval_coverage"]["coverage"], (error <= z[:, None] * std).mean(1), atol=1e-12
    )
    np.testing.assert_allclose(curves["interval_coverage"]["width"], 2 * z * std.mean())

    risk = curves["risk_coverage"]
    kept = error[np.argsort(std)]
    assert risk["coverage"] == pytest.approx(np.arange(1, 101) / 100)
    np.testing.assert_allclose(risk["risk"], [kept[: 4 * k].mean() for k in range(1, 101)])
    np.testing.assert_allclose(risk["std"], np.sort(std)[3::4])

    decade = (table["label_age_low"] // 10).astype(int).to_numpy()
    assert curves["decade_mae"]["decade"] == [10, 20, 30, 40, 50]
    assert curves["decade_mae"]["faces"] == np.bincount(decade)[1:].tolist()
    expected = [error[decade == d].mean() if (decade == d).sum() >= 50 else None for d in range(1, 6)]
    assert None in expected
    assert curves["decade_mae"]["mae"] == pytest.approx(expected)


def test_class_diagrams_agree_with_counting(table):
    found = compute_metrics(read_predictions(table))
    gender = found["classes"]["gender"]
    predicted = table[["gender_male", "gender_female"]].to_numpy().argmax(1)
    counts = [
        [int(((table["label_gender"] == name) & (predicted == column)).sum()) for column in (0, 1)]
        for name in ("male", "female")
    ]
    assert gender["names"] == ["male", "female"]
    assert gender["confusion"] == counts
    recalls = [counts[i][i] / sum(counts[i]) for i in (0, 1)]
    assert found["scalars"]["gender_balanced_acc"] == pytest.approx(np.mean(recalls))
    assert sum(gender["reliability"]["faces"]) == sum(map(sum, counts)) == found["labelled"]["gender"]
    assert gender["reliability"]["accuracy"][0] is None, "no confidence of two classes is below a half"


def test_groups_have_group_metrics_and_no_errors_in_years():
    table = table_of(groups=True)
    found = compute_metrics(read_predictions(table))
    assert {"group_acc", "group_acc_1off", "age_interval_nll", "age_coverage90"} <= found["scalars"].keys()
    assert not {"age_mae", "age_nll", "race_acc"} & found["scalars"].keys()
    assert found["curves"].keys() == {"interval_coverage", "risk_coverage"}
    middle = (table["label_age_low"] + table["label_age_high"]) / 2
    edges = np.array([-np.inf, *AGE_GROUP_EDGES, np.inf])
    masses = np.diff(norm.cdf((edges - table[["age_mean"]].to_numpy()) / table[["age_std"]].to_numpy()))
    wrong = masses.argmax(axis=1) != np.searchsorted(AGE_GROUP_EDGES, middle)
    surest = wrong[np.argsort(table["age_std"])]
    risk = found["curves"]["risk_coverage"]["risk"]
    np.testing.assert_allclose(risk, [surest[: 4 * k].mean() for k in range(1, 101)], atol=1e-12)
    assert found["classes"].keys() == {"gender"}


def test_a_metric_of_too_few_faces_is_undefined():
    found = compute_metrics(read_predictions(table_of(9)))
    assert np.isnan(found["scalars"]["age_ence"])
    assert np.isnan(found["scalars"]["age_worst_decade_mae"])
    assert found["scalars"]["age_mae"] > 0
    assert len(found["curves"]["risk_coverage"]["risk"]) == 9
