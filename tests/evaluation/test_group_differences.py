import numpy as np
import pandas as pd
import pytest
from prediction_tables import table_of

from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.subgroups import subgroups


@pytest.fixture(scope="module")
def table():
    """Faces of women and black faces are harder; a dozen asian faces are much harder."""
    table = table_of(600)
    harder = 1 + 0.8 * (table["label_gender"] == "female") + 0.5 * (table["label_race"] == "black")
    error = (table["age_mean"] - table["label_age_low"]) * harder
    table["age_mean"] = table["label_age_low"] + error + 100 * (table["label_race"] == "asian")
    return table


@pytest.fixture(scope="module")
def found(table):
    return subgroups(read_predictions(table), draws=100)


def by_group(table, columns):
    """Absolute errors by group, without groups below 50 faces."""
    errors = (table["age_mean"] - table["label_age_low"]).abs()
    keys = [table[f"label_{name}"] for name in columns]
    groups = errors[np.logical_and.reduce([key != "" for key in keys])].groupby(keys)
    return groups.mean()[groups.size() >= 50], groups.size()


@pytest.mark.parametrize("columns", [["gender"], ["race"], ["gender", "race"]])
def test_difference_and_ratio_are_those_of_groups_with_enough_faces(table, found, columns):
    values, faces = by_group(table, columns)
    gap = found.gaps.set_index(["by", "metric"]).loc[(" x ".join(columns), "age_mae")]
    assert gap["groups"] == len(values)
    assert gap["difference"] == pytest.approx(values.max() - values.min())
    assert gap["ratio"] == pytest.approx(values.min() / values.max())
    for end, place in (("group_max", values.idxmax()), ("group_min", values.idxmin())):
        assert gap[f"{end}_name"] == (place if isinstance(place, str) else ", ".join(place))
        assert gap[end] == pytest.approx(values[place])
        assert gap[f"{end}_faces"] == faces[place]
        assert gap[f"{end}_low"] < gap[end] < gap[f"{end}_high"]
    assert 0 <= gap["difference_low"] <= gap["difference_high"]
    assert gap["ratio_low"] <= gap["ratio_high"] <= 1


def test_gaps_of_one_pair_have_a_plain_interval(found):
    gap = found.gaps.set_index(["by", "metric"]).loc[("gender", "age_mae")]
    assert gap["difference_low"] < gap["difference"] < gap["difference_high"]
    rows = found.table.query("by == 'gender'")
    halves = (rows["age_mae_high"] - rows["age_mae_low"]) / 2  # the groups share few subjects
    assert gap["difference_high"] - gap["difference"] == pytest.approx(np.hypot(*halves), rel=0.2)


def test_metrics_without_a_natural_zero_have_no_ratio(found):
    gaps = found.gaps.set_index("metric")
    assert gaps.loc[["age_bias", "age_nll", "age_coverage90"], "ratio"].isna().all()
    assert gaps.loc[["age_mae", "gender_acc"], "ratio"].notna().all()
    assert not {"age_ence", "gender_ece"} & set(gaps.index), "their samples are biased"


def test_fractions_do_not_differ_by_more_than_1(table):
    always = table.assign(gender_male=(table["label_gender"] == "male") ^ (table["label_race"] == "white"))
    always["gender_female"] = ~always["gender_male"]
    always = always.astype({"gender_male": float, "gender_female": float})
    gaps = subgroups(read_predictions(always), draws=10).gaps.set_index(["by", "metric"])
    assert gaps.loc[("race", "gender_acc"), "difference"] == 1
    assert gaps.loc[("race", "gender_acc"), "difference_high"] == 1


def test_groups_are_compared_with_all_faces(table, found):
    errors = (table["age_mean"] - table["label_age_low"]).abs()
    rows = found.differences.query("metric == 'age_mae' and by == 'gender'").set_index("gender")
    for gender, row in rows.iterrows():
        value = errors[table["label_gender"] == gender].mean()
        assert row["overall"] == pytest.approx(errors.mean())
        assert row["difference"] == pytest.approx(value - errors.mean())
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert (row["p"] < 0.05) == (row["difference_low"] > 0 or row["difference_high"] < 0)
    ages = found.differences.query("metric == 'age_mae' and by == 'race'").set_index("race")
    assert ages.loc["white", "p"] < 0.05, "their error is the smallest"
    assert ages.loc["white", "difference_high"] < 0
    assert "asian" not in set(found.differences["race"])


def test_new_names_and_another_order_of_faces_change_names_only(table):
    table = table.assign(subject=table["id"])
    names = {"white": "zulu", "black": "alpha", "asian": "mike", "": ""}
    renamed = table.assign(label_race=table["label_race"].map(names))
    renamed = renamed.drop(columns=[name for name in table if name.startswith("race_")])
    table = table.drop(columns=[name for name in table if name.startswith("race_")])
    one, other = (subgroups(read_predictions(each), draws=10) for each in (table, renamed))
    left, right = (each.gaps.query("by == 'race'") for each in (one, other))
    assert left["group_max_name"].map(names).tolist() == right["group_max_name"].tolist()
    numbers = [name for name in left if not name.endswith(("_name", "by", "metric"))]
    pd.testing.assert_frame_equal(left[numbers].astype(float), right[numbers].astype(float))
    shuffled = subgroups(read_predictions(table.sample(frac=1, random_state=0)), draws=10)
    values = [name for name in one.table if not name.endswith(("_low", "_high"))]
    pd.testing.assert_frame_equal(one.table[values], shuffled.table[values])
