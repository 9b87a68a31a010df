import pandas as pd
import pytest
from simulated_predictions import simulate

from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.subgroups import subgroups
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.reports.fairness_text import HEADS, not_judged, opening, rows


@pytest.fixture(scope="module")
def found():
    table = simulate(900)
    worse = (table["label_gender"] == "female").to_numpy()
    names = ["gender_male", "gender_female"]
    table.loc[worse, names] = table.loc[worse, names[::-1]].to_numpy()
    return subgroups(read_predictions(table), draws=50)


def cells(found, metric, by, **options):
    """The row of a metric and a division, by head."""
    every = [dict(zip(HEADS, row, strict=True)) for row in rows(found.table, found.gaps, **options)]
    title = METRIC_BY_NAME[metric].title
    return next((row for row in every if (row["metric"], row["groups by"]) == (title, by)), None)


def test_worst_and_best_groups_stand_in_a_table_with_counts_and_intervals(found):
    everyone, gap = found.table.iloc[0], found.gaps.set_index(["by", "metric"]).loc[("gender", "gender_acc")]
    assert cells(found, "gender_acc", "-") == {
        "metric": "gender accuracy", "groups by": "-", "worst group": "all faces", "faces": "810",
        "value (95 %)": f"{100 * everyone['gender_acc']:.1f} % ({100 * everyone['gender_acc_low']:.1f} % to "
        f"{100 * everyone['gender_acc_high']:.1f} %)",
        "compared with": "-", "true difference (95 %)": "-", "beyond chance": "-",
    }  # fmt: skip
    row = cells(found, "gender_acc", "gender")
    assert (row["worst group"], row["faces"]) == ("female", str(gap["group_min_faces"]))
    assert row["value (95 %)"].startswith(f"{100 * gap['group_min']:.1f} % (")
    assert row["compared with"] == f"male ({gap['group_max_faces']}): {100 * gap['group_max']:.1f} %"
    ends = (100 * gap[f"difference_{end}"] for end in ("low", "high"))
    assert row["true difference (95 %)"] == "{:.1f} to {:.1f} points".format(*ends)
    assert row["beyond chance"] == "yes"
    assert cells(found, "race_acc", "gender")["beyond chance"] == "no"
    assert cells(found, "race_acc", "gender", brief=True) is None
    assert cells(found, "gender_acc", "gender", brief=True) == row


def test_the_worst_bias_is_the_one_farther_from_zero(found):
    gap = found.gaps.set_index(["by", "metric"]).loc[("age", "age_bias")]
    assert gap["group_min"] < -gap["group_max"] < 0, "old faces are estimated too young"
    row = cells(found, "age_bias", "age")
    assert row["worst group"] == "80-89"
    assert row["value (95 %)"].startswith(f"{gap['group_min']:.2f} (")
    assert row["compared with"].startswith(f"{gap['group_max_name']} ({gap['group_max_faces']}): ")


def test_one_sentence_names_the_groups_that_differ_beyond_chance(found):
    text, everyone = opening(found.table, found.gaps), found.table.iloc[0]
    assert text.startswith("It is worse for some groups than chance explains: ages are estimated worst for ")
    assert f", against {everyone['age_mae']:.2f} years for all faces" in text
    female = found.table[(found.table["by"] == "gender") & (found.table["gender"] == "female")].iloc[0]
    assert f"gender is right least often for female ({100 * female['gender_acc']:.1f} %)" in text
    assert "race is right" not in text
    equal = found.gaps.assign(difference_low=0.0)
    assert opening(found.table, equal) == "No groups by gender, race or age differ beyond chance."


def test_groups_that_are_too_small_are_counted(found):
    (text,) = not_judged(found.table)
    finest = found.table.query("by == 'gender x race x age'")
    assert text.startswith(f"Not judged: {(finest['faces'] < 50).sum()} of {len(finest)} groups by ")


def test_nothing_is_said_of_what_is_not_known(found):
    few, none = found.table.head(1), found.gaps.head(0)
    assert opening(few, none) == "There are too few faces to compare groups."
    assert [*not_judged(few)] == []
    assert [row[2] for row in rows(few, none)] == ["all faces"] * 4
    unknown = few.assign(age_mae=float("nan"), age_bias=float("nan"))
    assert [row[0] for row in rows(unknown, pd.DataFrame(columns=found.gaps.columns))] == [
        "gender accuracy", "race accuracy",
    ]  # fmt: skip
