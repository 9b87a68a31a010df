"""The table of changed photos, against sums by hand."""

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.evaluation.proportions import wilson
from mtmsa_lightning.evaluation.stress import StressedAges, stress_table
from mtmsa_lightning.reports.sections.stress import summary, without_few_minors

RANDOM = np.random.default_rng(0)
N = 120
AGE = RANDOM.integers(8, 40, N).astype(float)
LABELS = pd.DataFrame(
    {
        "id": [f"{n}" for n in range(N)], "file": "", "subject": "", "label_age_low": AGE,
        "label_age_high": np.where(np.arange(N) % 10, AGE, AGE + 4),
        "label_gender": np.where(np.arange(N) % 3, "male", "female"), "label_race": "",
    }
)  # fmt: skip
BEFORE = AGE + RANDOM.normal(0, 3, N)
AFTER = {("blur", 1): BEFORE + RANDOM.normal(2, 3, N), ("blur", 2): BEFORE + 6, ("beard", 3): BEFORE.copy()}
AFTER["blur", 1][5] = np.nan  # unreadable


@pytest.fixture(scope="module")
def table():
    return stress_table(StressedAges(LABELS, BEFORE, AFTER, 0), (13, 18), min_faces=30, draws=200)


def test_the_table_has_a_row_per_group_change_and_severity(table):
    groups = table[["by", "group"]].drop_duplicates().agg(" ".join, axis=1).tolist()
    assert groups[:3] == ["all ", "gender female", "gender male"]
    assert all(name.startswith("age ") for name in groups[3:]), "races are unknown"
    assert len(table) == 3 * len(groups)
    assert table["amount"][:3].tolist() == [
        "Gaussian, sigma 1.0% of the side", "Gaussian, sigma 2.0% of the side",
        "hairs on 50% of the skin",
    ]  # fmt: skip


@pytest.mark.parametrize("group", ["", "female"])
@pytest.mark.parametrize("condition", list(AFTER))
def test_rates_are_those_of_a_loop_over_faces(table, group, condition):
    row = table[(table["group"] == group) & (table["stress"] == condition[0])]
    row = row[row["severity"] == condition[1]].iloc[0]
    change, error, old_error, flips, ups = [], [], [], [], []
    for n in range(N):
        was, now = BEFORE[n], AFTER[condition][n]
        if np.isnan(now) or (group and LABELS["label_gender"][n] != group):
            continue
        change.append(now - was)
        if n % 10:
            error.append(abs(now - AGE[n]))
            old_error.append(abs(was - AGE[n]))
        flips.append((was >= 18) != (now >= 18))
        if was < 18 and LABELS["label_age_high"][n] < 18:
            ups.append(now >= 18)
    assert row["faces"] == len(change)
    assert row["change"] == pytest.approx(np.mean(change))
    assert row["abs_change"] == pytest.approx(np.mean(np.abs(change)))
    assert row["mae"] == pytest.approx(np.mean(error))
    assert row["mae_change"] == pytest.approx(np.mean(error) - np.mean(old_error))
    assert row["flip_18"] == pytest.approx(np.mean(flips))
    assert (row["up_18"], row["up_faces_18"]) == (pytest.approx(np.mean(ups)), len(ups))
    low, high = wilson(sum(flips), len(flips))
    assert (row["flip_18_low"], row["flip_18_high"]) == (
        pytest.approx(low, abs=0.01),
        pytest.approx(high, abs=0.01),
    )
    assert row["change_low"] <= row["change"] <= row["change_high"]


def test_the_page_shows_the_strongest_severity_and_the_most_moved_group(table):
    rows = summary(table)
    assert rows["change"].tolist() == [
        "blur: Gaussian, sigma 2.0% of the side", "beard: hairs on 50% of the skin",
    ]  # fmt: skip
    assert rows["mean change (years)"][0] == "+6.00 [+6.00, +6.00]"
    assert rows["cross 18"][1].startswith("0.0 % [0.0, ")


def test_a_handful_of_faces_has_no_groups_and_no_bootstrap_intervals():
    few = StressedAges(LABELS[:5], BEFORE[:5], {key: ages[:5] for key, ages in AFTER.items()}, 0)
    table = stress_table(few)
    assert table["by"].tolist() == ["all"] * 3
    assert table["change_low"].isna().all()


def test_rates_of_few_minors_are_not_shown(table):
    largest = int(table["up_faces_18"].max())
    hidden = without_few_minors(table.assign(amount="much"), largest + 1)
    assert hidden["up_18"].isna().all()
    assert set(summary(hidden)["minors taken for 18+"]) <= {f"- (of {n})" for n in table["up_faces_18"]} | {
        "-"
    }
    same = without_few_minors(table, largest)["up_18"]
    assert same.max() == table.loc[table["up_faces_18"] == largest, "up_18"].max()
