"""Decisions at legal ages against loops over the faces, and NIST's mean over cells against pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_tables import table_of
from scipy.stats import binomtest, norm

from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.evaluation.cell_mae import cell_mae
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.thresholds import (
    band_table,
    challenge_table,
    decision_rules,
    hide_few,
    near_ages,
    policy_table,
    threshold_table,
    without_faces,
)

Z95 = norm.ppf(0.95)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Faces from 10 to 59 years, each of another person."""
    faces = table_of(n=400, seed=3)
    shift = faces["label_age_low"].to_numpy() * 50 // 44 - 8 - faces["label_age_low"].to_numpy()
    faces[["label_age_low", "label_age_high", "age_mean"]] += shift[:, None]
    return faces.assign(subject="")


@pytest.fixture(scope="module")
def rates(table) -> pd.DataFrame:
    policies = [AgePolicy(18, yes_from=24.0, no_below=10.0)]
    return threshold_table(read_predictions(table), (13, 18, 99), policies)


def passes(face, rule, legal_age) -> bool:
    mean, std = face["age_mean"], face["age_std"]
    return {
        "estimate": mean >= legal_age,
        "challenge": mean >= legal_age + 7,
        "interval": mean - Z95 * std >= legal_age,
        "probability": mean - Z95 * std >= legal_age - 0.5,
        "policy": mean >= 24,
    }[rule]


def test_every_rate_is_that_of_a_loop_over_the_faces(table, rates):
    faces = table.to_dict("records")
    assert set(rates["legal_age"]) == {13, 18}, "nobody is 99"
    assert set(rates[rates["legal_age"] == 13]["rule"]) == {
        "estimate", "challenge", "interval", "probability",
    }  # fmt: skip
    checked = rates[(rates["legal_age"] == 18) & (rates["who"] != "age") | (rates["ages"] == "17")]
    for row in checked.to_dict("records"):
        first, _, last = row["ages"].replace(" or older", "-999").partition("-")
        members = [
            face for face in faces
            if int(first) <= face["label_age_low"] <= int(last or first)
            and (not row["by"] or face[f"label_{row['by']}"] == row["group"])
        ]  # fmt: skip
        legal_age = row["legal_age"]
        wrong = [
            passes(face, row["rule"], legal_age) == (face["label_age_low"] < legal_age) for face in members
        ]
        assert (row["faces"], row["errors"], row["subjects"]) == (len(members), sum(wrong), len(members))
        assert row["rate"] == pytest.approx(np.mean(wrong))
        ends = binomtest(sum(wrong), len(wrong)).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_groups_and_ages_divide_the_faces(table, rates):
    kept = rates[(rates["legal_age"] == 18) & (rates["rule"] == "policy")]
    everyone = kept[(kept["by"] == "") & kept["who"].isin(["all minors", "all adults"])]
    assert everyone["faces"].sum() == len(table)
    assert kept.loc[kept["who"] == "age", "faces"].sum() == len(table)
    assert kept.loc[kept["who"] == "age", "errors"].sum() == everyone["errors"].sum()
    by_race = kept[(kept["by"] == "race") & kept["who"].isin(["all minors", "all adults"])]
    assert by_race["errors"].sum() == everyone["errors"].sum()
    assert set(kept.loc[kept["who"] == "minors", "ages"]) == {"13-17"}
    assert near_ages(13) == ((8, 12), (13, 17))


def test_a_group_that_contains_the_legal_age_is_neither(table):
    wide = table.assign(label_age_low=16.0, label_age_high=20.0)
    wide.loc[:9, ["label_age_low", "label_age_high"]] = [8.0, 12.0]
    wide.loc[10:29, ["label_age_low", "label_age_high"]] = [25.0, 32.0]
    found = threshold_table(read_predictions(wide), (18,))
    found = found[(found["by"] == "") & (found["rule"] == "estimate")].set_index("who")["faces"]
    assert found.to_dict() == {"all minors": 10, "all adults": 20}


def test_faces_of_a_subject_are_resampled_together_and_further_columns_are_groups(table):
    """Ten equal faces per subject hold no more than one."""
    place = np.array(["here"] * 200 + ["there"] * 200)
    alone = threshold_table(read_predictions(table), (18,), columns={"place": place})
    copies = pd.concat([table.assign(id=table["id"] + str(copy)) for copy in range(10)], ignore_index=True)
    copies["subject"] = copies["id"].str[:-1]
    found = threshold_table(read_predictions(copies), (18,), columns={"place": np.tile(place, 10)})
    assert set(found["by"]) == {"", "gender", "race", "place"}
    assert found["subjects"].tolist() == alone["faces"].tolist()
    np.testing.assert_allclose(found["rate"], alone["rate"])
    several = alone["faces"] > 30
    ratio = (found["high"] - found["low"]) / (alone["high"] - alone["low"])
    assert ratio[several].between(0.95, 1.05).all()


def test_curves_are_the_counts_above_each_threshold(table):
    found = challenge_table(read_predictions(table), (18, 99))
    age, mean = table["label_age_low"].to_numpy(), table["age_mean"].to_numpy()
    minors, adults = mean[(age >= 13) & (age <= 17)], mean[age >= 18]
    curve = found[found["rule"] == "estimate"]
    for row in curve.iloc[::7].to_dict("records"):
        assert row["false_positive_rate"] == pytest.approx((minors >= row["threshold"]).mean())
        assert row["true_positive_rate"] == pytest.approx((adults >= row["threshold"]).mean())
    for _, rows in found.groupby("rule"):
        assert (rows[["false_positive_rate", "true_positive_rate"]].diff().dropna() <= 0).all(axis=None)
        assert (rows["fpr_low"] <= rows["false_positive_rate"] + 1e-12).all()
        assert (rows["fpr_high"] >= rows["false_positive_rate"] - 1e-12).all()
    assert challenge_table(read_predictions(table), (99,)).empty
    assert challenge_table(read_predictions(table), (18,), min_faces=len(minors) + 1).empty
    near = ((age >= 18) & (age <= 22)).sum()
    few = challenge_table(read_predictions(table), (18,), min_faces=len(minors))
    assert few["true_positive_rate_near"].isna().all() == (near < len(minors))


def test_too_few_faces_have_counts_and_no_rate(rates):
    hidden = hide_few(rates, 20)
    few = rates["faces"] < 20
    assert few.any()
    assert not few.all()
    assert hidden.loc[few, ["rate", "low", "high"]].isna().all(axis=None)
    assert set(hidden.loc[few, "note"]) == {"fewer than 20 faces"}
    assert set(hidden.loc[~few, "note"]) == {""}
    pd.testing.assert_frame_equal(hidden[~few][rates.columns], rates[~few])
    assert hidden[["faces", "errors"]].equals(rates[["faces", "errors"]])


@settings(max_examples=10)
@given(st.integers(14, 40), st.integers(0, 50))
def test_stricter_rules_pass_fewer_faces(legal_age, seed):
    age = read_predictions(table_of(n=40, seed=seed)).age
    passed = {rule.name: rule.passes(age) for rule in decision_rules(age, legal_age)}
    assert (passed["challenge"] <= passed["estimate"]).all()
    assert (passed["interval"] <= passed["estimate"]).all()
    later = {rule.name: rule.passes(age) for rule in decision_rules(age, legal_age + 1)}
    assert all((later[name] <= passed[name]).all() for name in passed)


def test_single_ages_are_decided_by_the_estimate_alone(table):
    given = read_predictions(table.drop(columns="age_std").assign(age_point=table["age_mean"]))
    assert set(threshold_table(given, (18,))["rule"]) == {"estimate", "challenge"}
    assert set(challenge_table(given, (18,))["rule"]) == {"estimate"}
    assert set(band_table(given)["rule"]) == {"estimate"}


def test_the_decisions_of_a_policy_refer_to_its_own_ages(table):
    policy = AgePolicy(18, near_years=3, yes_from=22.0, no_below=15.0)
    found = policy_table(read_predictions(table), policy)
    age, mean = table["label_age_low"], table["age_mean"]
    wanted = {"yes": mean >= 22, "no": mean < 15, "unsure": (mean >= 15) & (mean < 22)}
    near = found[found["who"] == "minors"].set_index("decision")
    assert set(near["ages"]) == {"15-17"}
    counts = {name: int((decided & age.between(15, 17)).sum()) for name, decided in wanted.items()}
    assert near["decided"].to_dict() == counts
    np.testing.assert_allclose(found.groupby("who")["rate"].sum(), 1)


def test_the_errors_of_a_policy_refer_to_its_own_ages_too(table):
    predictions = read_predictions(table)
    policy = AgePolicy(18, near_years=18, yes_from=22.0, no_below=15.0)
    found = threshold_table(predictions, (18,), [policy])
    rows = found[found["rule"] == "policy"]
    assert set(rows["text"]) == {
        "yes from an estimate of 22 years (minors of 0 to 17, young adults of 18 to 35)"
    }
    assert set(rows.loc[rows["who"] == "minors", "ages"]) == {"0-17"}
    assert set(rows.loc[rows["who"] == "adults", "ages"]) == {"18-35"}
    everyone = rows[rows["by"] == ""].set_index("who")
    assert everyone.loc["minors", "faces"] == (table["label_age_low"] < 18).sum()
    others = found[(found["rule"] != "policy") & (found["who"] == "minors")]
    assert set(others["ages"]) == {"13-17"}


def test_legal_ages_without_faces_on_one_side_are_named(table):
    predictions = read_predictions(table)
    assert without_faces(predictions, (5, 18, 120)) == {5: "minors", 120: "adults"}


def test_the_band_of_teenagers(table):
    found = band_table(read_predictions(table))
    age, mean = table["label_age_low"], table["age_mean"]
    taken = (mean >= 13) & (mean < 17)
    wanted = {
        "in the band": taken[age.between(13, 16)].sum(),
        "younger": taken[age < 13].sum(),
        "older": taken[age > 16].sum(),
    }
    everyone = found[(found["by"] == "") & (found["rule"] == "estimate")].set_index("who")
    assert everyone["taken"].to_dict() == wanted
    assert band_table(read_predictions(table[age > 20])).empty


def test_the_mean_over_cells_counts_each_cell_once(table):
    young = table[(table["label_age_low"] != 25) | (table["label_gender"] != "female")]
    found = cell_mae(read_predictions(young), (18, 30), draws=200)
    inside = young[young["label_age_low"].between(18, 30) & (young["label_gender"] != "")]
    error = (inside["age_mean"] - inside["label_age_low"]).abs()
    cells = error.groupby([inside["label_gender"], inside["label_age_low"]]).mean()
    assert found.mae == pytest.approx(cells.mean())
    assert found.low < found.mae < found.high
    assert "female 25" in found.empty
    assert len(found.cells) == 26 == len(cells) + len(found.empty)
    plain = cell_mae(read_predictions(table.assign(label_gender="")), (18, 30), draws=200)
    assert len(plain.cells) == 13
    assert np.isnan(cell_mae(read_predictions(table), (80, 90)).mae)
