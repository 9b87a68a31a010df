import numpy as np
import pytest
from prediction_tables import table_of

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.predictions import read_predictions


@pytest.fixture
def table():
    return table_of()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_read_as_it_was_written(table, tmp_path, suffix):
    table.loc[3, ["label_age_low", "label_age_high"]] = np.nan
    file = tmp_path / f"test.{suffix}"
    table.to_csv(file, index=False) if suffix == "csv" else table.to_parquet(file)
    found = read_predictions(file)
    assert len(found) == 400
    assert found.ids.tolist() == table["id"].tolist()
    assert found.subjects.tolist() == table["subject"].tolist(), "leading zeros stay"
    assert found.age.mean.tolist() == table["age_mean"].tolist()
    assert found.age.std.tolist() == table["age_std"].tolist()
    np.testing.assert_array_equal(found.age_low, table["label_age_low"])
    assert found.gender.names == ("male", "female")
    assert found.race.names == ("white", "black", "asian")
    assert found.race.probs[:, 2].tolist() == table["race_asian"].tolist()
    known = {"male": 0, "female": 1, "": -1}
    assert found.gender.target.tolist() == [known[name] for name in table["label_gender"]]
    assert found.gender_labels.tolist() == table["label_gender"].tolist()
    assert found.labelled() == {
        "exact": 399, "group": 0, "age": 399, "race": 400, "gender": (table["label_gender"] != "").sum(),
            "votes": 0,
    }  # fmt: skip


def test_classes_that_the_model_lacks_are_masked_and_counted(table):
    table.loc[:9, "label_race"] = "hispanic"
    found = read_predictions(table)
    assert found.race.masked == {"hispanic": 10}
    assert found.race.target[:10].tolist() == [-1] * 10
    assert found.race_labels[:10].tolist() == ["hispanic"] * 10, "subgroups go by what is labelled"
    assert found.labelled()["race"] == 390


def test_heads_and_columns_may_be_absent(table):
    only_age = table[["id", "label_age_low", "label_age_high", "age_mean", "age_std"]]
    found = read_predictions(only_age)
    assert found.gender is None
    assert found.race is None
    assert found.subjects.tolist() == [""] * 400
    only_gender = read_predictions(table[["id", "label_gender", "gender_male", "gender_female"]])
    assert only_gender.age is None
    assert only_gender.age_low.isnan().all()


def test_age_groups_are_named_by_their_columns(table):
    table = table.assign(group_0_2=0.1, group_60_100=0.9, group_of_friends=1)
    assert read_predictions(table).age_groups == ((0, 2), (60, 100))


LABELS = ["label_age_low", "label_age_high", "label_gender", "label_race"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="id"), "no column id"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.drop(columns="age_std"), "no column age_std"),
        (lambda t: t.assign(age_std=0.0), "age_std must be positive"),
        (
            lambda t: t.assign(age_mean=t["age_mean"].where(t.index != 7)),
            r"age_mean.* for 1 face: synthetic/7.jpg",
        ),
        (lambda t: t.assign(age_mean="old"), "age_mean"),
        (lambda t: t.drop(columns="label_age_high"), "no column label_age_high"),
        (lambda t: t.assign(label_age_high=1.0), "contradict each other: synthetic/0.jpg"),
        (lambda t: t.drop(columns=LABELS), "no labels.*mtmsa predict"),
        (lambda t: t.assign(race_white=3.0), "race_white.*sum is not 1"),
        (lambda t: t[["id", *LABELS]], "no predictions"),
    ],
)
def test_what_is_missing_is_named(table, change, message):
    with pytest.raises(DataError, match=f"^my table: .*{message}"):
        read_predictions(change(table), "my table")


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "test.parquet")
    (tmp_path / "test.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "test.parquet")
