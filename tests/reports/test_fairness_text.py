import pandas as pd
import pytest
from simulated_predictions import simulate

from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.subgroups import subgroups
from mtmsa_lightning.reports.fairness_text import paragraphs


@pytest.fixture(scope="module")
def found():
    table = simulate(900)
    worse = (table["label_gender"] == "female").to_numpy()
    names = ["gender_male", "gender_female"]
    table.loc[worse, names] = table.loc[worse, names[::-1]].to_numpy()
    return subgroups(read_predictions(table), draws=50)


def test_best_and_worst_groups_are_named_with_counts_and_intervals(found):
    age, bias, gender, race, small = paragraphs(found.table, found.gaps)
    everyone = found.table.iloc[0]
    assert age.startswith(f"Age: the mean error is {everyone['age_mae']:.2f} years over all 810 faces (")
    gap = found.gaps.set_index(["by", "metric"]).loc[("gender", "gender_acc")]
    assert gender.startswith(f"Gender: right for {100 * everyone['gender_acc']:.1f} % of all 810 faces (")
    faces, value = gap["group_min_faces"], gap["group_min"]
    assert f"By gender, it is worst for female ({faces} faces): {100 * value:.1f} %" in gender
    assert f"best for male ({gap['group_max_faces']} faces): {100 * gap['group_max']:.1f} %" in gender
    times = (1 - gap["group_min"]) / (1 - gap["group_max"])
    assert f"{times:.1f} times as many errors. The true difference is " in gender
    assert "By gender, no groups differ beyond chance: the worst is " in race
    assert "The true difference is at most " in race
    assert "corrected for the choice among 3 groups" in race
    assert bias.startswith("Shift of ages (plus: estimated too old). By age: from 80-89 (")
    assert "By gender:" not in bias, "not beyond chance"
    assert small.startswith("Not judged: ")
    brief = paragraphs(found.table, found.gaps, brief=True)
    assert brief[3] == race.partition(" By ")[0], "no groups differ beyond chance"
    assert "it is worst for female" in brief[2]
    none = found.table.query("by == 'gender x race x age'")
    assert f"{(none['faces'] < 50).sum()} of {len(none)} groups" in small


def test_shifts_of_ages_are_named_where_groups_differ_beyond_chance(found):
    gaps = found.gaps[found.gaps["by"].isin(["gender", "race"])].copy()
    chosen = (gaps["by"] == "gender") & (gaps["metric"] == "age_bias")
    gaps.loc[chosen, ["difference_low", "difference_high"]] = 0.4, 2.9
    row = gaps[chosen].iloc[0]
    said = f"By gender: from {row['group_min_name']} ({row['group_min_faces']} faces) by "
    bias = paragraphs(found.table, gaps)[1]
    assert bias.startswith(f"Shift of ages (plus: estimated too old). {said}")
    assert bias.endswith("; the true difference is 0.4 to 2.9 years (95 %).")
    assert paragraphs(found.table, gaps, brief=True)[1] == bias
    none = gaps[~chosen]
    assert paragraphs(found.table, none)[1].startswith("No groups differ beyond chance in the mean shift")
    assert not any("hift" in text for text in paragraphs(found.table, none, brief=True))


def test_nothing_is_said_of_what_is_not_known(found):
    few = found.table.head(1)
    assert len(paragraphs(few, found.gaps.head(0))) == 3
    unknown = few.assign(age_mae=float("nan"))
    assert [text.split(":")[0] for text in paragraphs(unknown, pd.DataFrame(columns=found.gaps.columns))] == [
        "Gender", "Race",
    ]  # fmt: skip
