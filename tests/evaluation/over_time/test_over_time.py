"""Which faces the evaluation over time takes, and when there is none."""

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.evaluation.over_time.over_time import over_time
from mtmsa_lightning.evaluation.over_time.photos import photos_of_subjects
from mtmsa_lightning.evaluation.predictions import read_predictions


def table_of(rows) -> pd.DataFrame:
    """Return predictions of rows ``(id, subject, low, high, estimate)``."""
    table = pd.DataFrame(rows, columns=["id", "subject", "label_age_low", "label_age_high", "age_mean"])
    return table.assign(age_point=table["age_mean"], label_gender="male")


def test_only_known_people_with_exact_ages_count_and_each_photo_once():
    table = table_of([
        ("a2", "anna", 30, 30, 28.0), ("a1", "anna", 20, 20, 25.0), ("a1", "anna", 20, 20, 99.0),
        ("b1", "", 40, 40, 1.0), ("c1", "carl", 25, 32, 2.0), ("c2", "carl", np.nan, np.nan, 3.0),
        ("c3", "carl", 25, 25, 4.0),
    ])  # fmt: skip
    photos = photos_of_subjects(read_predictions(table))
    assert photos.subject.tolist() == [0, 0, 1]
    assert photos.age.tolist() == [20, 30, 25]
    assert photos.estimate.tolist() == [25, 28, 4]
    found = over_time(read_predictions(table), draws=5)
    (row,) = found.gaps[found.gaps["gap"] == "10-19"].to_dict("records")
    assert (row["pairs"], row["subjects"], row["true"], row["estimated"]) == (1, 1, 10, 3)
    assert found.sampled == 0
    assert from_json(to_json(found.to_dict()))["averaging"][-1]["photos"] == np.inf


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "anna", 20, 20, 21.0), ("b", "bert", 30, 30, 29.0)],
        [("a", "anna", 20, 20, 21.0), ("b", "anna", 20, 20, 29.0)],
        [("a", "anna", 15, 20, 21.0), ("b", "anna", 25, 32, 29.0)],
        [("a", "", 20, 20, 21.0), ("b", "", 30, 30, 29.0)],
        [("a", "anna", 20, 20, 21.0), ("a", "anna", 20, 20, 29.0)],
    ],
    ids=["one photo each", "equal ages", "age groups", "unknown people", "one photo twice"],
)
def test_without_two_ages_of_a_person_there_is_nothing(rows):
    assert over_time(read_predictions(table_of(rows))) is None
