"""Pairs of photos of one person against loops over all pairs."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_people import people, photos_of, samples

from mtmsa_lightning.evaluation.over_time import pairs
from mtmsa_lightning.evaluation.over_time.pairs import gap_table, pair_sums
from mtmsa_lightning.evaluation.over_time.photos import Photos
from mtmsa_lightning.evaluation.proportions import wilson

LEAST = {"1": 1, "2": 2, "3-4": 3, "5-9": 5, "10-19": 10, "20 or more": 20}
MEANS = ("true", "estimated", "bias", "mae", "sd", "slope", "wrong_order", "wrong_order_by_subject")


def looped(rows, gap):
    """Return the columns of one row of the table, by loops; None without a pair."""
    low = LEAST.get(gap, 0)
    high = min((each for each in LEAST.values() if each > low), default=np.inf) if gap != "all" else np.inf
    found = []
    for one, other in combinations(rows, 2):
        (subject, young, first), (of, old, second) = sorted([one, other])
        if subject == of and young < old and low <= old - young < high:
            found.append((subject, old - young, second - first))
    if not found:
        return None
    wrong = {}
    for subject, _, estimated in found:
        wrong.setdefault(subject, []).append(1.0 if estimated < 0 else 0.5 if estimated == 0 else 0.0)
    errors = [estimated - true for _, true, estimated in found]
    return {
        "pairs": len(found),
        "subjects": len(wrong),
        "most_of_one": max(map(len, wrong.values())) / len(found),
        "true": np.mean([true for _, true, _ in found]),
        "estimated": np.mean([estimated for *_, estimated in found]),
        "bias": np.mean(errors),
        "mae": np.mean(np.abs(errors)),
        "sd": np.std(errors),
        "slope": sum(d * e for _, d, e in found) / sum(d * d for _, d, _ in found),
        "wrong_order": np.mean([each for several in wrong.values() for each in several]),
        "wrong_order_by_subject": np.mean([np.mean(each) for each in wrong.values()]),
    }


photo = st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 40).map(float))


@given(st.lists(photo, max_size=14))
@settings(max_examples=25, deadline=None)
def test_every_row_is_that_of_loops_over_all_pairs(rows):
    """Estimates are whole years, so some pairs are tied."""
    sums = pair_sums(photos_of(rows))
    expected = {gap: looped(rows, gap) for gap in (*LEAST, "all")}
    if expected["all"] is None:
        assert not sums.any()
        return
    table = gap_table(sums, draws=1).set_index("gap")
    assert table.index.tolist() == [gap for gap in expected if expected[gap]]
    for gap in table.index:
        assert table.loc[gap, [*expected[gap]]].to_dict() == pytest.approx(expected[gap], abs=1e-9)
    assert table.filter(like="_low").isna().all(axis=None), "fewer than ten people"


def test_pairs_are_computed_in_chunks(monkeypatch):
    photos = people(30)
    whole = pair_sums(photos)
    monkeypatch.setattr(pairs, "CHUNK", 5)
    np.testing.assert_allclose(pair_sums(photos), whole)


def test_of_a_subject_with_too_many_photos_some_are_drawn_by_the_seed():
    photos = photos_of([(0, age, 1.5 * age) for age in range(100)] + [(1, 20, 20.0), (1, 30, 30.0)])
    found = [pair_sums(photos, most=4, seed=seed) for seed in (0, 0, 1)]
    assert found[0][..., 0].sum(axis=1).tolist() == [6, 1]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_intervals_are_those_of_samples_of_people():
    photos = people(14)
    table = gap_table(pair_sums(photos), draws=25, seed=3).set_index("gap")
    drawn = []
    for number, rows in samples(photos, 25, seed=3):
        sample = Photos(number, photos.age[rows], photos.estimate[rows])
        drawn.append(gap_table(pair_sums(sample), draws=1).set_index("gap"))
    assert {"3-4", "all"} <= set(table.index[table["subjects"] >= 10]) < set(table.index)
    for gap in table.index:
        for name in ("estimated", "bias", "mae", "slope"):
            values = [each.loc[gap, name] for each in drawn if gap in each.index]
            expected = np.quantile(values, [0.025, 0.975]) if table.loc[gap, "subjects"] >= 10 else np.nan
            np.testing.assert_allclose(table.loc[gap, [f"{name}_low", f"{name}_high"]].tolist(), expected)


def test_no_pair_in_the_wrong_order_has_an_interval_as_wide_as_that_of_its_people():
    rows = [(subject, age, float(age)) for subject in range(15) for age in (20, 26, 28)]
    row = gap_table(pair_sums(photos_of(rows)), draws=5).set_index("gap").loc["5-9"]
    assert (row["pairs"], row["wrong_order"], row["wrong_order_low"]) == (30, 0, 0)
    assert row["wrong_order_high"] == pytest.approx(wilson(0, 15)[1])
    assert row["wrong_order_by_subject"] == 0
