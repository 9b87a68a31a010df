"""Predictions of other programs: columns, matching with faces, and values."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.external.columns import choose_columns
from mtmsa_lightning.evaluation.external.matching import match_faces
from mtmsa_lightning.evaluation.external.reading import read_external
from mtmsa_lightning.evaluation.face_scores import face_scores
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.shown_faces import faces_to_look_at
from mtmsa_lightning.evaluation.table_metrics import compute_metrics
from mtmsa_lightning.models.distributions import CategoricalAge

PATHS = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg"]
IDS = [f"set/{path}" for path in PATHS]
FACES = pd.DataFrame({"id": IDS, "path": PATHS})
AGE = np.array([20.0, 30.0, 40.0])
LABELS = pd.DataFrame(
    {
        "id": IDS[:3], "file": PATHS[:3], "subject": ["x", "x", "y"], "label_age_low": AGE,
        "label_age_high": AGE, "label_gender": ["male", "female", "male"],
        "label_race": ["white", "black", "other"],
    }
)  # fmt: skip
"""The first three faces are the test part."""


@pytest.fixture
def read(tmp_path):
    def of(columns, least=0.5, names=None, suffix=".csv"):
        file = tmp_path / f"theirs{suffix}"
        table = pd.DataFrame(columns)
        table.to_parquet(file) if suffix == ".parquet" else table.to_csv(file, index=False)
        return read_external(file, names or {}, LABELS, FACES, ("white", "black", "other"), least)

    return of


@pytest.mark.parametrize(
    ("keys", "by"),
    [
        (IDS, "id"),
        (PATHS, "path"),
        ([f"/data/set/{path}" for path in PATHS], "path"),
        ([f"C:\\data\\{path}".replace("/", "\\") for path in PATHS], "path"),
        ([f"./{path}" for path in PATHS], "path"),
    ],
)
def test_faces_are_found_by_id_or_path(keys, by):
    match = match_faces([*keys, "nowhere/9.jpg"], IDS, PATHS)
    assert match.face.tolist() == [0, 1, 2, 3, -1]
    assert match.by == by


def test_names_of_files_are_compared_where_paths_differ_and_shared_names_match_nothing():
    match = match_faces(["crops/1.jpg", "crops/2.jpg", "crops/3.jpg"], IDS, PATHS)
    assert (match.face.tolist(), match.by) == ([-1, 1, 3], "file name")
    match = match_faces(["crops/2.png", "3.webp"], IDS, PATHS)
    assert (match.face.tolist(), match.by) == ([1, 3], "file name without ending")


@given(st.data())
def test_any_end_of_a_path_finds_the_faces_that_it_could_mean(data):
    """Against a comparison of all pairs."""
    paths = data.draw(
        st.lists(st.text("ab/", min_size=1, max_size=5).filter(lambda t: t.strip("/")), max_size=6)
    )
    paths = list(dict.fromkeys("/".join(filter(None, path.split("/"))) for path in paths))
    key = "/".join(filter(None, data.draw(st.text("ab/", min_size=1, max_size=6)).split("/")))
    if not key:
        return
    of = f"/{key}"
    inside = [n for n, path in enumerate(paths) if of.endswith(f"/{path}")]
    around = [n for n, path in enumerate(paths) if f"/{path}".endswith(of)]
    longest = max(inside, key=lambda n: len(paths[n]), default=-1)
    expected = longest if inside else around[0] if len(around) == 1 else -1
    from mtmsa_lightning.evaluation.external.matching import _by_ends

    assert _by_ends([key], paths, [f"set/{path}" for path in paths]).tolist() == [expected]


def test_points_give_every_metric_that_needs_no_distribution(read):
    found = read(
        {"Image": PATHS[:3], "Predicted Age": AGE + np.array([1, -2, 3]), "sex": ["M", "Woman", "F"]}
    )
    assert (len(found.table), found.missing, found.matched_by) == (3, 0, "path")
    predictions = read_predictions(found.table)
    metrics = compute_metrics(predictions)
    assert metrics["scalars"]["age_mae"] == 2
    assert metrics["scalars"]["age_bias"] == pytest.approx(2 / 3)
    assert metrics["scalars"]["gender_acc"] == pytest.approx(2 / 3)
    assert "group_acc" not in metrics["scalars"]
    left_out = {"age_nll", "age_crps", "age_ence", "age_aurc", "age_coverage90", "age_width90", "gender_ece"}
    assert left_out <= {*metrics["left_out"]}
    assert not left_out & {*metrics["scalars"]}
    assert metrics["curves"].keys() == {"cumulative_score", "decade_mae"}
    assert metrics["classes"]["gender"]["reliability"] is None


def test_intervals_give_their_coverage_and_nothing_of_other_levels(read):
    ends = {"q05": AGE - 5, "q0.95": AGE + np.array([5, -1, 5]), "age_low50": AGE - 1, "age_high50": AGE + 1}
    scalars = compute_metrics(read_predictions(read({"id": IDS[:3], "q50": AGE, **ends}).table))["scalars"]
    assert scalars["age_coverage90"] == pytest.approx(2 / 3)
    assert scalars["age_width90"] == pytest.approx(8)
    assert scalars["age_coverage50"] == 1
    assert not {"age_coverage80", "age_nll"} & scalars.keys()


def test_a_std_gives_a_normal_distribution_and_years_their_own(read):
    std = read_predictions(read({"id": IDS[:3], "age": AGE, "sigma": [1.0, 2.0, 3.0]}).table)
    torch.testing.assert_close(std.age.std, torch.tensor([1.0, 2.0, 3.0]).double())
    assert not std.left_out()

    pmf = np.random.default_rng(0).dirichlet(np.ones(5), 3)
    years = {f"p_{year}": pmf[:, i] for i, year in enumerate(range(18, 23))}
    found = read_predictions(read({"id": IDS[:3], **years}).table).age
    expected = CategoricalAge(torch.tensor(pmf).log(), 18)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.std, expected.std)
    torch.testing.assert_close(found.crps(20.0), expected.crps(20.0))


def test_classes_of_the_dataset_that_are_never_predicted_count_as_wrong(read):
    table = read({"id": IDS[:3], "age": AGE, "dominant_race": ["white", "white", "latino hispanic"]}).table
    assert [name for name in table if name.startswith("race_")] == [
        "race_white", "race_black", "race_other", "race_latino hispanic",
    ]  # fmt: skip
    assert compute_metrics(read_predictions(table))["scalars"]["race_acc"] == pytest.approx(1 / 3)


def test_percentages_of_classes_are_probabilities(read):
    table = read({"id": IDS[:3], "gender_man": [99.0, 20, 50.5], "gender_woman": [1.0, 80, 49.5]}).table
    np.testing.assert_allclose(
        table[["gender_male", "gender_female"]], [[0.99, 0.01], [0.2, 0.8], [0.505, 0.495]]
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_missing_is_counted(read, suffix):
    found = read({"path": [PATHS[2], PATHS[0], PATHS[3], "else.jpg", PATHS[1]], "age": [41, 22, 3, 4, None]},
                 suffix=suffix)  # fmt: skip
    assert found.table["id"].tolist() == [IDS[0], IDS[2]], "in the order of the faces"
    assert found.table["age_mean"].tolist() == [22, 41]
    assert found.record() == {
        "matched_by": "path", "rows": 5, "faces": 3, "elsewhere": 1, "unmatched": 1, "empty": 1, "missing": 1,
    }  # fmt: skip
    assert "2 of 3 test faces have a prediction" in found.notes()[0]
    assert "1 match no face" in found.notes()[1]


def test_a_column_that_is_empty_everywhere_is_left_out_with_a_warning(read, caplog):
    found = read({"id": IDS[:3], "age": AGE, "sex": ["unknown"] * 3})
    assert (len(found.table), found.empty, found.tasks) == (3, 0, ["age"])
    assert "empty in all 3 rows of test faces, so left out: ['sex']" in caplog.text


def test_the_columns_with_empty_values_are_named(read):
    empty = {"id": IDS[:3], "age": [20, None, None], "sex": ["", "male", ""]}
    notes = read(empty, least=0.3).notes()
    assert "2 of 3 test faces" in notes[0]
    assert "1 of them have a row without a value" in notes[0]
    said = "2 in 'age', 2 in 'sex'. Metrics of age and gender are those of the faces with that prediction."
    assert said in notes[-1]
    message = r"too few test faces have an age: .* 2 in 'age', 2 in 'sex'.*Fill the values"
    with pytest.raises(DataError, match=message) as raised:
        read(empty)
    assert "--columns path" not in str(raised.value)


def test_a_face_without_a_gender_keeps_its_age(read, tmp_path):
    """Two of three faces have a gender, one of which is right; the ages are 0, 0 and 3 years off."""
    table = read({"id": IDS[:3], "age": [20, 30, 43], "sex": ["male", "male", "unknown"]}).table
    assert table["without_gender"].tolist() == [0, 0, 1]
    table.to_csv(tmp_path / "written.csv", index=False)
    for source in (table, tmp_path / "written.csv"):
        predictions = read_predictions(source)
        scalars = compute_metrics(predictions)["scalars"]
        assert (scalars["age_mae"], scalars["gender_acc"]) == (pytest.approx(1), 0.5)
        assert predictions.labelled()["gender"] == 2
        assert not predictions.gender.masked
        scores = face_scores(predictions)
        np.testing.assert_array_equal(scores["gender_acc"], [1, 0, np.nan])
        np.testing.assert_allclose(scores["age_mae"], [0, 0, 3])


def test_a_face_without_an_age_keeps_its_gender(read, tmp_path):
    """Two of three faces have an age, 2 and 0 years off; all have a gender, two of which are right."""
    sexes = ["male", "female", "female"]
    found = read({"id": IDS[:3], "age": [22, None, 40], "std": [3, None, 2], "sex": sexes})
    assert (len(found.table), found.missing, found.empty) == (3, 0, 0)
    assert found.table["without_age"].tolist() == [0, 1, 0]
    found.table.to_csv(tmp_path / "written.csv", index=False)
    for source in (found.table, tmp_path / "written.csv"):
        predictions = read_predictions(source)
        scalars = compute_metrics(predictions)["scalars"]
        assert (scalars["age_mae"], scalars["gender_acc"]) == pytest.approx((1, 2 / 3))
        assert (predictions.labelled()["exact"], predictions.labelled()["gender"]) == (2, 3)
        np.testing.assert_array_equal(face_scores(predictions)["age_mae"], [2, np.nan, 0])
        assert predictions.age_labels.tolist() == ["20-29", "30-39", "40-49"], "groups of gender too"
        assert faces_to_look_at(predictions)["most uncertain"]["id"].iloc[0] == IDS[0]
    assert read_predictions(found.table.iloc[[1]]).age is None


def test_without_ages_a_face_needs_a_gender_or_a_race(read):
    found = read({"id": IDS[:3], "sex": ["male", "", ""], "race": ["white", "black", ""]})
    assert found.table["without_gender"].tolist() == [0, 1]
    assert "without_race" not in found.table
    assert (found.empty, found.missing) == (1, 1)


def test_a_table_without_an_age_is_evaluated_with_a_warning_unless_this_was_said(read, caplog):
    table = {"id": IDS[:3], "alter_geschaetzt": AGE, "sex": ["male"] * 3}
    assert read(table, names={"age": None}).tasks == ["gender"]
    assert not caplog.text
    assert read(table).tasks == ["gender"]
    assert "no age was found, so that --legal_ages has no effect" in caplog.text
    assert "columns not used: ['alter_geschaetzt']" in caplog.text


WRONG = [
    ({"id": IDS[:3], "age": AGE / 100}, "from 0 to 1, while labels reach 40 years: ages look like fractions"),
    ({"id": IDS[:3], "age": [20, -20.5, 40]}, "line 3: a predicted age of -20.5 is not from -20 to 150"),
    ({"id": IDS[:3], "age": [20, 30, 151]}, "line 4: a predicted age of 151"),
    ({"id": IDS[:3], "age": [None] * 3}, "no prediction of a test face: .'age'. is empty in all 3 rows"),
    ({"id": IDS[:1], "age": [3]}, "too few test faces have a prediction: 1 of 3"),
    ({"id": ["x", "y"], "age": [3, 4]}, "too few .* 0 of 3"),
    ({"id": [*IDS[:3], IDS[0]], "age": [1, 2, 3, 4]}, "1 faces have several predictions .matched by id."),
    ({"id": IDS[:3], "age": [1, "x", 3]}, "line 3: age 'x' is not a finite number"),
    ({"id": IDS[:3], "age": AGE, "std": [1, 0, 1]}, "line 3: std must be above 0"),
    ({"id": IDS[:3], "age": AGE, "pred_age": AGE}, "both 'age' and 'pred_age' .* --columns age=age or"),
    ({"id": IDS[:3], "height": AGE}, "no prediction"),
    ({"age": AGE}, "no column of ids or paths"),
    ({"id": IDS[:3], "age": AGE, "sex": [0, 1, 0]}, "is a code"),
    ({"id": IDS[:3], "age": AGE, "sex": ["male", "x", "male"]}, "line 3: gender 'x' is not one of"),
    ({"id": IDS[:3], "p_3": [0.5] * 3, "p_5": [0.5] * 3}, "no probability of the year 4"),
    ({"id": IDS[:3], "p_3": [0.5] * 3, "p_4": [0.6] * 3}, "line 2: the probabilities of the years"),
    ({"id": IDS[:3], "age": AGE, "q05": AGE, "q95": AGE - 1}, "line 2: the ends of the 90 % interval"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG)
def test_what_cannot_be_read_is_refused(read, columns, message):
    with pytest.raises(DataError, match=message):
        read(columns)


def test_columns_are_named_by_the_user_and_labels_are_not_taken_for_predictions(tmp_path):
    header = ["path", "age", "out", "q10"]
    found = choose_columns(header, {"age": "OUT"}, tmp_path)
    assert found.single == {"path": "path", "age": "out"}
    assert found.quantiles == {0.1: "q10"}
    with pytest.raises(DataError, match=r"no column 'outs' .did you mean 'out'"):
        choose_columns(header, {"age": "outs"}, tmp_path)
    with pytest.raises(DataError, match="unknown name 'agee'"):
        choose_columns(header, {"agee": "out"}, tmp_path)
