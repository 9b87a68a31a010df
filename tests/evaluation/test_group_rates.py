import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_tables import table_of
from scipy import stats

from mtmsa_lightning.evaluation.face_groups import face_groups
from mtmsa_lightning.evaluation.group_rates import class_rates, equalised_odds
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.resampling import cluster_numbers, sampling_units


def odds_of(table, min_faces=50, draws=100):
    """The equalised-odds differences of a table."""
    predictions = read_predictions(table)
    units = cluster_numbers(sampling_units(predictions.ids, predictions.subjects), len(predictions))
    return equalised_odds(predictions, [*face_groups(predictions)], units, min_faces, draws, 0.95, 0)


def rates_of(table):
    """The confusion by group of a table."""
    predictions = read_predictions(table)
    return class_rates(predictions, [*face_groups(predictions)], np.arange(len(table)), 50, 0.95)


def handmade(cells):
    """A table of genders by race: counts of faces by (race, label, predicted)."""
    rows = [
        {"label_race": race, "label_gender": label, "gender_male": float(predicted == "male")}
        for (race, label, predicted), count in cells.items()
        for _ in range(count)
    ]
    table = pd.DataFrame(rows).assign(gender_female=lambda rows: 1 - rows["gender_male"])
    return table.assign(id=[f"{row}.jpg" for row in range(len(table))])


CELLS = {
    ("white", "male", "male"): 95, ("white", "male", "female"): 5,
    ("white", "female", "female"): 90, ("white", "female", "male"): 10,
    ("black", "male", "male"): 54, ("black", "male", "female"): 6,
    ("black", "female", "female"): 49, ("black", "female", "male"): 21,
    ("other", "male", "female"): 20,
}  # fmt: skip


def test_the_equalised_odds_difference_is_the_larger_of_both_rates():
    odds = odds_of(handmade(CELLS), draws=200)
    assert len(odds) == 1, "by race only: there are no ages, and gender is the label itself"
    row = odds.iloc[0]
    assert (row["task"], row["by"], row["groups"]) == ("gender", "race", 2)
    assert row["difference"] == pytest.approx(0.90 - 0.70), "women: 90 % and 70 %; men: 95 % and 90 %"
    assert row["label"] == "female"
    assert row["group_max"] - row["group_min"] == pytest.approx(0.2)
    assert (row["group_max"] == pytest.approx(0.9)) == (row["predicted"] == "female")
    assert (row["group_max_faces"], row["group_min_faces"]) in ((100, 70), (70, 100))
    assert 0 < row["difference_low"] < 0.2 < row["difference_high"]


def test_confusion_by_group_has_counts_shares_and_wilsons_intervals():
    rates = rates_of(handmade(CELLS))
    rows = rates.query("by == 'race'").set_index(["race", "label", "predicted"])
    for (race, label, predicted), count in CELLS.items():
        row = rows.loc[(race, label, predicted)]
        assert row["count"] == count
        faces = sum(n for key, n in CELLS.items() if key[:2] == (race, label))
        assert row["faces"] == faces
        if faces < 50:
            assert np.isnan(row["share"])
            assert row["note"] == "fewer than 50 faces"
            continue
        assert row["share"] == count / faces
        assert [row["low"], row["high"]] == pytest.approx(
            list(stats.binomtest(count, faces).proportion_ci(method="wilson"))
        )
        assert row["note"] == ""


@given(st.integers(0, 1000))
@settings(max_examples=4)
def test_odds_do_not_depend_on_the_names_and_the_order_of_groups(seed):
    table = table_of(300, seed)
    names = {"white": "zulu", "black": "alpha", "asian": "mike"}
    race = [name for name in table if name.startswith("race_")]
    table = table.drop(columns=race)
    renamed = table.assign(label_race=table["label_race"].map(names)).sample(frac=1, random_state=seed)
    one, other = (odds_of(each, 10, 20) for each in (table, renamed))
    assert one["by"].tolist() == other["by"].tolist()
    assert one["difference"].to_numpy() == pytest.approx(other["difference"].to_numpy())
    assert (one["difference"] <= 1).all()
    assert (one["group_max"] - one["group_min"]).to_numpy() == pytest.approx(one["difference"].to_numpy())


def test_the_interval_is_the_same_whatever_the_other_rates_are_called():
    swapped = {
        (race, *("female" if x == "male" else "male" for x in pair)): n for (race, *pair), n in CELLS.items()
    }
    one, other = (odds_of(handmade(each)).iloc[0] for each in (CELLS, swapped))
    assert other["label"] == "male"
    assert one[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(
        other[["difference", "difference_low", "difference_high"]].tolist()
    )
