from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from prediction_tables import table_of
from scipy import stats

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.subgroup_metrics import risk_coverage_areas
from mtmsa_lightning.evaluation.subgroups import subgroups
from mtmsa_lightning.metrics.uncertainty import normalised_calibration_error, risk_coverage
from mtmsa_lightning.models.distributions import GaussianAge

METRIC_NAMES = ["age_mae", "age_aurc", "gender_acc", "gender_acc_low", "race_balanced_acc", "race_ece"]
DIVISIONS = [
    "all", "gender", "race", "age", "gender x race", "gender x age", "race x age", "gender x race x age",
]  # fmt: skip


@pytest.fixture
def table():
    return table_of()


def members(table: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """Return the faces of a row of the table of subgroups, the slow way."""
    keep = table["label_age_low"].notna()
    divided = row["by"].split(" x ")
    for name in ("gender", "race"):
        if name in divided:
            keep &= table[f"label_{name}"] == row[name]
    if "age" in divided:
        first, last = map(int, row["age"].split("-"))
        keep &= table["label_age_low"].between(first, last)
    return table[keep]


def class_metrics(faces: pd.DataFrame, task: str, names: list[str]) -> dict[str, float]:
    """Return accuracy, mean recall and calibration error of labelled faces, the slow way."""
    faces = faces[faces[f"label_{task}"].isin(names)]
    if len(faces) < 50:
        return {}
    probs = faces[[f"{task}_{name}" for name in names]].to_numpy()
    right = (np.array(names)[probs.argmax(1)] == faces[f"label_{task}"]).to_numpy()
    recalls = [right[faces[f"label_{task}"] == name].mean() for name in set(faces[f"label_{task}"])]
    confidence = probs.max(1)
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(abs((right - confidence)[bins == each].sum()) for each in set(bins)) / len(faces)
    found = {f"{task}_faces": len(faces), f"{task}_acc": right.mean()}
    return found | {f"{task}_balanced_acc": np.mean(recalls), f"{task}_ece": error}


def test_every_metric_is_that_of_the_groups_faces_or_absent(table):
    found = subgroups(read_predictions(table), draws=20).table
    assert list(dict.fromkeys(found["by"])) == DIVISIONS
    assert (found["faces"] < 50).any()
    for _, row in found.iterrows():
        faces = members(table, row)
        assert row["faces"] == len(faces)
        assert row["subjects"] == faces["subject"].nunique()
        if len(faces) < 50:
            assert row[METRIC_NAMES].isna().all()
            assert row["note"] == "no metrics: fewer than 50 faces"
            continue
        signed = (faces["age_mean"] - faces["label_age_low"]).to_numpy()
        std, error = torch.tensor(faces["age_std"].to_numpy()), torch.tensor(np.abs(signed))
        expected = {
            "age_mae": np.abs(signed).mean(),
            "age_rmse": np.sqrt((signed**2).mean()),
            "age_bias": signed.mean(),
            "age_cs5": (np.abs(signed) <= 5).mean(),
            "age_width90": (2 * 1.6448536269514722 * faces["age_std"]).mean(),
            "age_aurc": risk_coverage(std, error).risk.mean().item(),
            "age_ence": normalised_calibration_error(std, error).item(),
        }
        for task, names in (("gender", ["male", "female"]), ("race", ["white", "black", "asian"])):
            expected |= class_metrics(faces, task, names)
        assert row[list(expected)].to_dict() == pytest.approx(expected), row["by"]


def test_intervals_hold_their_metric_and_are_those_of_resampled_subjects(table):
    predictions = read_predictions(table)
    found = subgroups(predictions, draws=2000).table.iloc[0]
    random = np.random.default_rng(1)
    error = np.abs(table["age_mean"] - table["label_age_low"]).groupby(table["subject"]).agg(["sum", "size"])
    drawn = random.integers(len(error), size=(2000, len(error)))
    means = error["sum"].to_numpy()[drawn].sum(1) / error["size"].to_numpy()[drawn].sum(1)
    assert found["age_mae_low"] < found["age_mae"] < found["age_mae_high"]
    assert [found["age_mae_low"], found["age_mae_high"]] == pytest.approx(
        np.quantile(means, [0.025, 0.975]), abs=0.03
    )
    narrower = subgroups(predictions, draws=2000, level=0.5).table.iloc[0]
    assert narrower["age_aurc_low"] > found["age_aurc_low"]
    assert found["age_aurc_low"] < found["age_aurc"] < found["age_aurc_high"]


def test_equal_seeds_give_equal_tables(table):
    predictions = read_predictions(table)
    first, second, third = (subgroups(predictions, draws=50, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.gaps, second.gaps)
    assert not first.table.equals(third.table)


def test_few_subjects_have_metrics_but_no_interval(table):
    table["subject"] = [str(row % 9) for row in range(len(table))]
    row = subgroups(read_predictions(table), draws=50).table.iloc[0]
    assert row["age_mae"] > 0
    assert np.isnan(row["age_mae_low"])


def test_faces_of_age_groups_are_divided_by_their_group():
    table = table_of(groups=True)
    found = subgroups(read_predictions(table), draws=20)
    assert list(dict.fromkeys(found.table["by"])) == ["all", "gender", "age", "gender x age"]
    ages = found.table[found.table["by"] == "age"]
    assert ages["age"].tolist() == ["15-20", "25-32", "38-43", "48-53"]
    assert ages["faces"].sum() == 400
    assert "group_acc_1off" in found.table
    assert "age_mae" not in found.table
    assert "age_aurc" not in found.table


def test_faces_lacking_a_label_stand_in_fewer_groups(table):
    table.loc[:99, ["label_age_low", "label_age_high"]] = np.nan
    found = subgroups(read_predictions(table), draws=5).table.groupby("by", sort=False)["faces"].sum()
    assert found["all"] == 400
    assert found["age"] == 300
    assert found["gender"] == (table["label_gender"] != "").sum()
    assert found["gender x race x age"] == (table["label_gender"][100:] != "").sum()


def test_classes_have_subgroups_without_ages(table):
    found = subgroups(read_predictions(table.drop(columns=["label_age_low", "label_age_high"])), draws=20)
    assert list(dict.fromkeys(found.table["by"])) == ["all", "gender", "race", "gender x race"]
    everyone = found.table.iloc[0]
    assert everyone["gender_acc_low"] < everyone["gender_acc"] < everyone["gender_acc_high"]
    assert "age_mae" not in found.table
    without = table.drop(columns=["age_mean", "age_std"])
    assert (subgroups(read_predictions(without), draws=20).table["by"] == "age").any(), "labelled ages"


def test_without_labels_of_a_predicted_task_there_are_no_subgroups(table):
    without = table[["id", "label_age_low", "label_age_high", "gender_male", "gender_female"]]
    with pytest.raises(DataError, match="labels of a task"):
        subgroups(read_predictions(without))


def test_class_metrics_have_intervals_that_contain_them(table):
    for row in subgroups(read_predictions(table), draws=100).table.to_dict("records"):
        for name in ("gender_acc", "gender_balanced_acc", "gender_ece", "race_acc", "race_ece"):
            if np.isfinite(row[name]):
                assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1, (row["by"], name)
                assert row[f"{name}_low"] < row[f"{name}_high"], (row["by"], name)


def test_a_group_that_is_always_right_has_an_interval_below_1(table):
    alike = table.assign(subject="", gender_male=(table["label_gender"] == "male").astype(float))
    alike["gender_female"] = 1 - alike["gender_male"]
    row = subgroups(read_predictions(alike), draws=20).table.query("by == 'gender'").iloc[0]
    assert row["gender_acc"] == row["gender_acc_high"] == 1
    n = row["gender_faces"]
    expected = stats.binomtest(n, n).proportion_ci(method="wilson")[0]
    assert row["gender_acc_low"] == pytest.approx(expected)


def test_notes_tell_what_is_missing_and_why(table):
    table.loc[table["label_race"] == "black", "label_gender"] = ""
    found = subgroups(read_predictions(table), draws=5).table.query("by == 'race'").set_index("race")["note"]
    assert found["white"] == ""
    assert found["black"] == "no metrics of gender: fewer than 50 faces with that label"
    assert found["asian"] == "no metrics: fewer than 50 faces"
    table["subject"] = [str(row % 9) for row in range(len(table))]
    few = subgroups(read_predictions(table), min_faces=5, draws=5)
    assert few.table["note"].iloc[0] == "no intervals: fewer than 10 subjects"
    assert few.table.query("by == 'race'")["age_mae"].notna().all(), "the least number of faces is chosen"
    assert few.gaps.empty


@pytest.mark.parametrize("ties", [False, True])
def test_areas_of_many_samples_are_those_of_repeated_faces(ties):
    random = np.random.default_rng(0)
    std = np.sort(random.integers(1, 5, 12).astype(float) if ties else random.uniform(1, 9, 12))
    error = random.exponential(4, 12)
    weights = random.integers(0, 4, (30, 12)).astype(float)
    weights[0] = 0
    found = risk_coverage_areas(std, error, weights)
    assert np.isnan(found[0])
    for sample, times in enumerate(weights[1:].astype(int), start=1):
        repeated = [torch.tensor(np.repeat(values, times)) for values in (std, error)]
        assert found[sample] == pytest.approx(risk_coverage(*repeated).risk.mean().item())


class Endless(GaussianAge):
    """A prediction whose intervals end nowhere for the first face."""

    def interval(self, level):
        low, high = super().interval(level)
        return low, torch.where(torch.arange(len(high)) == 0, torch.inf, high)


def test_a_width_without_end_is_no_metric_where_it_occurs(table):
    predictions = read_predictions(table)
    endless = replace(predictions, age=Endless(predictions.age.mean, predictions.age.std))
    found = subgroups(endless, draws=5).table
    first = table["label_gender"][0]
    assert np.isnan(found["age_width90"][0])
    assert found["age_coverage90"][0] > 0
    rows = found[found["by"] == "gender"].set_index("gender")["age_width90"]
    assert np.isnan(rows[first])
    assert rows.drop(first).notna().all()
