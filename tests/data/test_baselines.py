import math
import statistics
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.data.baselines import baselines, baselines_by_part, constant_age_mae
from mtmsa_lightning.data.splits.split import make_split
from mtmsa_lightning.labels import AGE_GROUPS

AGES = st.lists(st.integers(0, 130), min_size=1, max_size=20)


def table(low: list[float], high: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"age_low": low, "age_high": high or low}, dtype=float)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (table([20, 40]), table([30]), 0),
        (table([20, 40]), table([20, 30, 50]), 10),
        (table([0, 8], [2, 12]), table([5, 6]), 0.5),  # groups train by their midpoints, 1 and 10
        (table([20, 40, np.nan]), table([20, np.nan, 25], [20, np.nan, 32]), 10),  # only exact ages count
    ],
)
def test_constant_age_mae(train, test, expected):
    assert constant_age_mae(train, test) == pytest.approx(expected)


@given(AGES, AGES)
def test_constant_age_mae_against_plain_python(train, test):
    guess = statistics.fmean(train)
    expected = statistics.fmean(abs(age - guess) for age in test)
    assert constant_age_mae(table(train), table(test)) == pytest.approx(expected)


def test_no_exact_age_has_no_mae():
    assert math.isnan(constant_age_mae(table([20, 30]), table([25], [32])))


@pytest.mark.parametrize("train", [table([]), table([np.nan]), pd.DataFrame({"age_low": [], "age_high": []})])
def test_no_training_age_has_no_mae(train):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(constant_age_mae(train, table([20, 30])))


def labelled(ages: list[float], gender: list[int], race: list[int]) -> pd.DataFrame:
    return table(ages).assign(gender=gender, race=race)


def test_baselines_by_hand():
    train = labelled([20, 20, 20, 60], [0, 0, 1, -1], [2, 2, 2, 0])  # mean 30, median 20
    part = labelled([20, 25, 36, np.nan], [0, 1, 1, -1], [2, 0, 1, 2])
    assert baselines(train, part) == pytest.approx(
        {
            "age_mae_of_mean": (10 + 5 + 6) / 3,
            "age_mae_of_median": (0 + 5 + 16) / 3,
            "age_cs5_of_mean": 1 / 3,
            "age_cs5_of_median": 2 / 3,
            "gender_acc": 1 / 3,
            "race_acc": 2 / 4,
        }
    )


def test_baselines_of_groups_by_hand():
    train = table([25, 25, 38], [32, 32, 43]).assign(gender=-1, race=-1)
    part = table([25, 15, 48, 38], [32, 20, 53, 43]).assign(gender=-1, race=-1)
    assert baselines(train, part, AGE_GROUPS) == {"group_acc": 1 / 4, "group_acc_1off": 3 / 4}


def test_baselines_of_other_groups():
    train = table([0, 20, 70], [2, 29, 100]).assign(gender=-1, race=-1)
    part = table([0, 3, 20], [2, 9, 29]).assign(gender=-1, race=-1)
    groups = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 69), (70, 100))
    assert baselines(train, part, groups) == {"group_acc": 1 / 3, "group_acc_1off": 2 / 3}


def test_what_has_no_label_has_no_baseline():
    nothing = labelled([np.nan], [-1], [-1])
    assert baselines(labelled([20], [0], [1]), nothing, AGE_GROUPS) == {}
    assert baselines(nothing, labelled([20], [0], [1]), AGE_GROUPS) == {}


def test_baselines_of_every_part_learn_from_the_training_part(face_table):
    faces = face_table(6, split=["train", "train", "val", "test", "test", ""], gender=[0, 0, 1, 0, 1, 1])
    split = make_split(faces, "predefined")
    metrics = baselines_by_part(faces.frame, split)
    assert {part: values["gender_acc"] for part, values in metrics.items()} == {
        "train": 1, "val": 0, "test": 0.5,
    }  # fmt: skip
    assert metrics["test"]["age_mae_of_mean"] == pytest.approx(3.0)  # 23 and 24 against 20.5
    assert baselines_by_part(faces.frame, make_split(faces, "whole")) == {"test": {}}
