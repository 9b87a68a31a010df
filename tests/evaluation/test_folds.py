import json

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation import folds
from mtmsa_lightning.evaluation import subgroups as subgroups_module
from mtmsa_lightning.evaluation.folds import pool, spread
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.resampling import sampling_units
from mtmsa_lightning.evaluation.subgroups import subgroups
from mtmsa_lightning.studies.summary import write_crossval

DATA = {
    "dataset": "adience", "protocol": "folds", "split_seed": 0, "split_file": None,
    "label_rule": "adience canonical", "gender_classes": ["male", "female"], "race_classes": [],
    "age_groups": [], "image_size": 64, "crop": 1.0, "fingerprints": {"test": "f" * 64},
    "faces": {"test": 3},
}  # fmt: skip


def a_run(folder, errors, **data):
    ages = np.array([20.0, 40.0, 60.0])
    faces = {"id": [f"{folder.name}/{n}" for n in range(3)], "subject": ["s", "s", ""]}
    faces |= {"label_age_low": ages, "label_age_high": ages, "age_mean": ages + errors, "age_std": 4.0}
    (folder / "predictions").mkdir(parents=True)
    pd.DataFrame(faces).to_parquet(folder / "predictions" / "test.parquet")
    record = {"data": DATA | data, "versions": {"torch": "2"}, "git_commit": "abc", "device": "cpu"}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_two_folds_of_known_errors(tmp_path):
    """MAE 1 and 3: mean 2, population deviation 1, sample deviation the root of 2."""
    runs = {(0, 0): a_run(tmp_path / "a", [1, 1, 1]), (1, 0): a_run(tmp_path / "b", [3, -3, 3])}
    text = write_crossval(tmp_path / "out", "x", runs, {}, [0, 1])
    metric = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]["age_mae"]
    assert metric["mean"] == 2
    assert metric["over_folds"] == {"n": 2, "sd_sample": pytest.approx(2**0.5), "sd_population": 1}
    assert "| age MAE (years) | 1.00 | 3.00 | 2.00 ± 1.41 | 2.00 |" in text, (
        "too few subjects for an interval"
    )
    assert "adience, protocol folds, split seed 0, label rule adience canonical; folds 0, 1 (all)" in text


def test_people_as_folds_have_both_means_and_no_column_each(tmp_path):
    data = {"protocol": "leave_one_subject_out"}
    runs = {(n, 0): a_run(tmp_path / str(n), [n, n, n], **data) for n in range(12)}
    text = write_crossval(tmp_path / "out", "x", runs, {}, [*range(12)])
    assert "| metric | mean ± sd over folds | pooled [95 %] |" in text
    assert "| age MAE (years) | 5.50 ± 3.61 | 5.50 [" in text
    assert "the mean over folds is the mean of the metric by person" in text
    assert (tmp_path / "out" / "summary.csv").read_text().count("\nrun,") == 12


def test_summary_and_report_give_the_pooled_metric_one_interval(tmp_path):
    random = np.random.default_rng(0)
    runs = {}
    for fold in range(2):
        run = a_run(tmp_path / str(fold), [0, 0, 0])
        ages = random.integers(16, 78, 200).astype(float)
        names = [f"{fold}/{number // 2}" for number in range(200)]  # two faces of each subject
        faces = {"id": [f"{fold}/{number}" for number in range(200)], "subject": names}
        faces |= {"label_age_low": ages, "label_age_high": ages, "age_mean": ages + random.normal(0, 5, 200)}
        pd.DataFrame(faces | {"age_std": 4.0}).to_parquet(run / "predictions" / "test.parquet")
        runs[fold, 0] = run
    write_crossval(tmp_path / "out", "x", runs, {}, [0, 1])
    pooled = json.loads((tmp_path / "out" / "summary.json").read_text())["pooled"]["metrics"]["age_mae"]
    found = subgroups(read_predictions(tmp_path / "out" / "predictions" / "seed0.parquet")).table.iloc[0]
    assert [found["age_mae_low"], found["age_mae_high"]] == pytest.approx([pooled["low"], pooled["high"]])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("label_rule", "adience extended"),
        ("split_seed", 1),
        ("protocol", "random"),
        ("gender_classes", ["female", "male"]),
        ("crop", 0.85),
    ],
)
def test_runs_that_do_not_agree_are_refused_and_nothing_is_written(tmp_path, key, value):
    runs = {
        (0, 0): a_run(tmp_path / "a", [1, 1, 1]),
        (1, 0): a_run(tmp_path / "b", [1, 1, 1], **{key: value}),
    }
    with pytest.raises(DataError, match=f"cannot be averaged: {key} is "):
        write_crossval(tmp_path / "out", "x", runs, {}, [0, 1])
    assert not (tmp_path / "out").exists()


def test_the_mean_over_folds_does_not_favour_a_fold_with_more_seeds():
    index = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)], names=["fold", "seed"])
    metric = spread(pd.DataFrame({"age_mae": [1.0, 3.0, 6.0]}, index=index), complete=False)["age_mae"]
    assert metric["mean"] == 4
    assert metric["per_fold"] == {"0": 2, "1": 6}
    assert metric["over_seeds"] is None
    assert metric["over_runs"]["n"] == 3


def test_metrics_that_are_not_finite_stay_and_undefined_ones_are_not_averaged():
    index = pd.MultiIndex.from_tuples([(0, 0), (1, 0)], names=["fold", "seed"])
    values = {"age_ence": [np.nan, np.nan], "age_width95": [np.inf, 3.0], "age_mae": [np.nan, 2.0]}
    found = spread(pd.DataFrame(values, index=index), complete=True)
    assert np.isnan(found["age_ence"]["mean"])
    assert found["age_ence"]["over_folds"]["n"] == 0
    assert found["age_width95"]["mean"] == np.inf
    assert np.isnan(found["age_width95"]["over_folds"]["sd_sample"])
    assert (found["age_mae"]["mean"], found["age_mae"]["over_folds"]["n"]) == (2, 1)
    assert np.isnan(found["age_mae"]["per_fold"]["0"])


def test_a_summary_keeps_metrics_that_are_not_finite(tmp_path):
    runs = {(0, 0): a_run(tmp_path / "a", [1, 1, 1]), (1, 0): a_run(tmp_path / "b", [3, -3, 3])}
    text = write_crossval(tmp_path / "out", "x", runs, {}, [0, 1])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(), parse_constant=pytest.fail)
    for each in (*summary["runs"], summary["pooled"]["metrics"]["age_ence"]):
        assert "nan" in (each.get("test", each))["not_finite"].values()
    assert summary["metrics"]["age_ence"]["not_finite"]["mean"] == "nan"
    assert "ENCE) | undefined | undefined | undefined ± - | undefined |" in text
    lines = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    column = lines[0].split(",").index("age_ence")
    assert [line.split(",")[column] for line in lines[1:4]] == ["nan"] * 3
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["age_ence"].isna().all()


def test_a_run_on_part_of_its_test_part_is_told(tmp_path):
    run = a_run(tmp_path / "a", [1, 1, 1])
    seen = {"test": {"faces": 3, "unreadable": 0, "of": 9}}
    (run / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | {"seen": seen}))
    text = write_crossval(tmp_path / "out", "x", {(0, 0): run}, {}, [0])
    assert "Fold 0, seed 0: partial: 3 of 9 faces of the test part." in text


def test_subjects_that_were_trained_on_and_notes_on_the_split_are_said(tmp_path):
    """Of 3 faces each, none and all show a subject that is not new."""
    runs = {
        (fold, 0): a_run(tmp_path / str(fold), [1, 1, 1], subjects_in_two_parts=share, notes=["a drawn set"])
        for fold, share in ((0, 0.0), (1, 1.0))
    }
    text = write_crossval(tmp_path / "out", "x", runs, {}, [0, 1])
    assert "50.0 % of the test images show a subject that was trained on." in text
    assert text.count("A drawn set.") == 1
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["subjects_in_two_parts"] == 0.5


def test_faces_of_folds_that_overlap_are_counted_and_said(tmp_path):
    first, second = a_run(tmp_path / "a", [1, 1, 1]), a_run(tmp_path / "b" / "a", [2, 2, 2])
    text = write_crossval(tmp_path / "out", "x", {(0, 0): first, (1, 0): second}, {}, [0, 1])
    assert "3 rows repeat a face that another fold tests as well" in text


def test_a_missing_fold_does_not_empty_the_metrics_of_folds_that_share_faces(tmp_path):
    """Seed 1 lacks the fold whose faces repeat: no id repeats in its table."""
    runs = {(0, 0): a_run(tmp_path / "a", [1, 1, 1]), (1, 0): a_run(tmp_path / "b", [9, 9, 9])}
    runs[0, 1] = a_run(tmp_path / "c", [3, 3, 3])
    for run in runs.values():
        file = run / "predictions" / "test.parquet"
        pd.read_parquet(file).assign(id=["x", "y", "z"]).to_parquet(file)
    text = write_crossval(tmp_path / "out", "x", runs, {(1, 1): "failed"}, [0, 1])
    pooled = json.loads((tmp_path / "out" / "summary.json").read_text())["pooled"]
    assert pooled["faces"] == 3
    assert pooled["metrics"]["age_mae"]["value"] == 2
    assert "all 3 test faces at once" in text


@pytest.mark.parametrize("subjects", [["s", "s", "t", ""], [""] * 4, ["s", "", "", "t"]])
def test_the_summary_and_the_report_resample_the_same_units(tmp_path, subjects, monkeypatch):
    """One interval of the pooled MAE, whichever page shows it; a face that two folds test is one unit."""
    for module in (folds, subgroups_module):
        monkeypatch.setattr(module, "MIN_CLUSTERS", 1)
    runs = {}
    for fold, ids in enumerate((["d", "c"], ["a", "d"])):
        ages, of_fold = np.array([20.0, 40.0]), subjects[2 * fold : 2 * fold + 2]
        faces = {"id": ids, "subject": of_fold, "label_age_low": ages, "label_age_high": ages}
        run = a_run(tmp_path / str(fold), [0, 0, 0])
        table = pd.DataFrame(faces | {"age_mean": ages + np.array([1 + fold, 3]), "age_std": 4.0})
        table.to_parquet(run / "predictions" / "test.parquet")
        runs[fold, 0] = run
    write_crossval(tmp_path / "out", "x", runs, {}, [0, 1])
    pooled = json.loads((tmp_path / "out" / "summary.json").read_text())["pooled"]["metrics"]["age_mae"]
    predictions = read_predictions(tmp_path / "out" / "predictions" / "seed0.parquet")
    found = subgroups(predictions, min_faces=1)
    assert len(set(sampling_units(predictions.ids, predictions.subjects))) == found.table["subjects"].iloc[0]
    everyone = found.table.iloc[0]
    assert everyone["age_mae"] == pytest.approx(pooled["value"])
    assert [everyone["age_mae_low"], everyone["age_mae_high"]] == pytest.approx(
        [pooled["low"], pooled["high"]]
    )


def test_a_class_that_one_fold_did_not_train_on_is_not_evaluated_there(tmp_path):
    known = {"label_age_low": 20.0, "label_age_high": 20.0, "age_mean": 20.0, "age_std": 1.0}
    for fold, races in enumerate(({"race_a": 0.4, "race_b": 0.6}, {"race_b": 0.7, "race_c": 0.3}, {})):
        (tmp_path / str(fold) / "predictions").mkdir(parents=True)
        face = pd.DataFrame([{"id": str(fold), "label_race": "c", **known, **races}])
        face.to_parquet(tmp_path / str(fold) / "predictions" / "test.parquet")
    runs = {(fold, 0): tmp_path / str(fold) for fold in range(2)}
    pooled = pool(runs, 0)
    nan = float("nan")
    np.testing.assert_equal(
        pooled[["race_a", "race_b", "race_c"]].to_numpy(), [[0.4, 0.6, nan], [nan, 0.7, 0.3]]
    )
    read = read_predictions(pooled).race
    assert read.probs.tolist() == [[0.4, 0.6, 0], [0, 0.7, 0.3]]
    assert (read.target.tolist(), read.masked) == ([-1, 2], {"c": 1})
    with pytest.raises(DataError, match="no finite number"):
        read_predictions(pooled.drop(columns="fold"))
    assert pool({**runs, (2, 0): tmp_path / "2"}, 0)["race_b"].isna().tolist() == [False, False, True]
