import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.cli.main import main

AGES = [20, 30, 40, 50, 60, 70]
SUBJECTS = ["a", "a", "b", "c", "", ""]


def table(errors, subjects=SUBJECTS, ages=AGES, genders=("male", "female") * 3, **columns):
    """Six test faces with given errors of age and a gender head that always says male."""
    age = np.array(ages, float)
    faces = {"id": [f"set/{number}.jpg" for number in range(len(age))], "subject": subjects}
    faces |= {"label_age_low": age, "label_age_high": age, "label_gender": genders}
    faces |= {"age_mean": age + errors, "age_std": 5.0, "gender_male": 0.9, "gender_female": 0.1}
    return pd.DataFrame(faces | columns)


@pytest.fixture
def write(tmp_path):
    def file(name, frame):
        frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_csv(
            tmp_path / name, index=False
        )
        return tmp_path / name

    return file


@pytest.fixture
def compare(tmp_path):
    def run(*args):
        out = tmp_path / "out.json"
        main(["compare", *map(str, args), "--out", str(out)])
        return json.loads(out.read_text())

    return run


def rows(record, metric):
    return [row for row in record["comparisons"] if row["metric"] == metric]


def test_known_differences(write, compare, capsys):
    """Signed errors 4 and 3, then 1: differences by subject are -6, -2, -3, -2 and -3; all 2 of 32 flips."""
    baseline = write("a.parquet", table([4, 4, 3, 4, 3, 4]))
    record = compare(baseline, write("b.csv", table([1, -1, 1, 1, 1, 1])))
    (mae,) = rows(record, "age_mae")
    assert (mae["baseline"], mae["value"]) == (pytest.approx(22 / 6), 1.0)
    assert mae["difference"] == pytest.approx(-16 / 6)
    assert -3 <= mae["low"] <= mae["difference"] <= mae["high"] <= -2
    assert mae["p"] == mae["p_holm"] == 2 / 32
    assert (mae["faces"], mae["subjects"]) == (6, 5)
    assert mae["verdict"] == "not significant at 5 %"
    (gender,) = rows(record, "gender_acc")
    assert (gender["difference"], gender["p"], gender["low"], gender["high"]) == (0, 1, 0, 0)
    printed = capsys.readouterr().out
    assert "| age MAE (years) | 3.67 | 1.00 | -2.67 [" in printed
    assert "not significant at 5 %" in printed
    assert "the random choice of test faces only" in printed


def test_clear_differences_are_called_by_their_way(write, compare):
    """Without subjects, ten faces that all improve: p = 2 / 1024; the same faces that get worse."""
    ages = list(range(20, 30))
    alone = {"subjects": [""] * 10, "ages": ages, "genders": ["male"] * 10}
    good, bad = write("g.csv", table([1.0] * 10, **alone)), write("b.csv", table([9.0] * 10, **alone))
    (better,) = rows(compare(bad, good), "age_mae")
    (worse,) = rows(compare(good, bad), "age_mae")
    assert better["p"] == worse["p"] == 2 / 1024
    assert better["verdict"] == "better, significant at 5 %"
    assert worse["verdict"] == "worse, significant at 5 %"
    assert better["subjects"] is None
    (bias,) = rows(compare(good, bad), "age_bias")
    assert bias["verdict"] == "different, significant at 5 %", "neither more nor less is better"


def test_narrower_intervals_are_not_called_better(write, compare):
    """They may cover less."""
    alone = {"subjects": [""] * 10, "ages": list(range(20, 30)), "genders": ["male"] * 10}
    wide, narrow = (table([0.0] * 10, **alone).assign(age_std=std) for std in (5.0, 1.0))
    (width,) = rows(compare(write("w.csv", wide), write("n.csv", narrow)), "age_width90")
    assert width["verdict"] == "different, significant at 5 %"


def test_a_run_equals_itself(write, compare):
    file = write("a.parquet", table([4, 4, 3, 4, 3, 4]))
    for row in compare(file, file)["comparisons"]:
        assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1), row["metric"]
        assert row["verdict"] == "not significant at 5 %"


def test_several_runs_are_corrected_by_holm_within_each_metric(write, compare, capsys):
    baseline = write("a.csv", table([4, 4, 3, 4, 3, 4]))
    others = [write("b.csv", table([1, 1, 1, 1, 1, 1])), write("c.csv", table([4, 3, 3, 4, 3, 3]))]
    first, second = rows(compare(baseline, *others), "age_mae")
    assert (first["p"], first["p_holm"]) == (2 / 32, 4 / 32)
    assert second["p"] == second["p_holm"] == 1 / 2
    assert "corrected by Holm for 2 runs" in capsys.readouterr().out


def test_rows_are_matched_by_id_not_by_order(write, compare):
    a, b = table([4, 4, 3, 4, 3, 4]), table([1, 2, 3, 4, 5, 6])
    ordered = compare(write("a.csv", a), write("b.csv", b))["comparisons"]
    mixed = compare(write("a.csv", a), write("b.csv", b.sample(frac=1, random_state=1)))["comparisons"]
    assert ordered == mixed


def test_metrics_that_one_side_lacks_are_skipped(write, compare):
    ageless = table([0] * 6).drop(columns=["age_mean", "age_std"])
    found = compare(write("a.csv", table([4] * 6)), write("b.csv", ageless))["comparisons"]
    assert [row["metric"] for row in found] == ["gender_acc"]


def test_both_metrics_are_over_the_faces_that_both_count(write, compare):
    """One model knows no black faces: the other's accuracy is quoted without them."""
    race = {"label_race": ["white"] * 4 + ["black"] * 2}
    one = table([1] * 6, **race, race_white=[0.9] * 3 + [0.2] * 3, race_asian=[0.1] * 3 + [0.8] * 3)
    two = table([1] * 6, **race, race_white=[0.9] * 4 + [0.2] * 2, race_black=[0.1] * 4 + [0.8] * 2)
    (accuracy,) = rows(compare(write("a.csv", one), write("b.csv", two)), "race_acc")
    assert (accuracy["baseline"], accuracy["value"], accuracy["faces"]) == (0.75, 1.0, 4)


def crossval_folder(folder, tables):
    (folder / "crossval" / "predictions").mkdir(parents=True)
    for seed, frame in enumerate(tables):
        frame.to_parquet(folder / "crossval" / "predictions" / f"seed{seed}.parquet")
    summary = {
        "dataset": "morph",
        "protocol": "random",
        "split_seed": 7,
        "label_rule": "table",
        "seeds": [*range(len(tables))],
    }
    (folder / "crossval" / "summary.json").write_text(json.dumps(summary | {"folds": [0, 1]}))
    return folder


def test_of_several_seeds_a_face_counts_by_its_mean_score(write, compare, tmp_path, capsys):
    """Errors 2 and 4 of two seeds are a score of 3: less than 3.5 for all, though seeds disagree."""
    folds = {"fold": [0, 0, 0, 1, 1, 1]}
    seeds = crossval_folder(tmp_path / "x", [table([2] * 6, **folds), table([4] * 6, **folds)])
    record = compare(write("a.csv", table([3.5] * 6)), seeds)
    (mae,) = rows(record, "age_mae")
    assert (mae["value"], mae["difference"]) == (3, -0.5)
    assert mae["p"] == 2 / 32
    assert record["others"][0]["recorded"]["split_seed"] == 7
    printed = capsys.readouterr().out
    assert "protocol random, split seed 7, label rule table, folds 0, 1, seeds 0, 1" in printed
    assert "a.csv: 6 faces [" in printed
    assert "are not recorded beside this table" in printed


def test_tables_that_the_summary_does_not_list_are_skipped_and_named(compare, tmp_path, caplog):
    """A table of a seed of long ago, which a summary of fewer seeds has left behind."""
    folder = crossval_folder(tmp_path / "x", [table([2] * 6, fold=0)])
    stale = folder / "crossval" / "predictions" / "seed5.parquet"
    table([9] * 6, fold=0).to_parquet(stale)
    record = compare(folder, folder)
    assert [row["baseline"] for row in rows(record, "age_mae")] == [2]
    assert f"{stale}: skipped, because {folder}/crossval/summary.json does not list its runs" in caplog.text


def test_a_table_that_the_summary_lists_and_that_is_missing_is_named(fails, tmp_path):
    folder = crossval_folder(tmp_path / "x", [table([2] * 6, fold=0)] * 2)
    (folder / "crossval" / "predictions" / "seed1.parquet").unlink()
    assert "seed1.parquet: missing, but" in fails("compare", folder, folder)


def test_cross_validations_of_other_folds_are_refused_by_their_folds(fails, tmp_path):
    both = pd.concat([table([1] * 6, fold=0), table([1] * 6, fold=1).assign(id=list("abcdef"))])
    two = crossval_folder(tmp_path / "two", [both])
    one = crossval_folder(tmp_path / "one", [table([1] * 6, fold=0)])
    summary = one / "crossval" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"folds": [0]}))
    message = fails("compare", two, one)
    assert f"{two} is of folds 0, 1, {one} is of fold 0: metrics on different test faces cannot be" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("which", "said"), [("ab", "both are"), ("a", "one is"), ("b", "one is"), ("", None)]
)
def test_infinite_widths_are_neither_tested_nor_called_equal(which, said, write, compare, capsys):
    """From a calibration on too few subjects; the other metrics are compared as ever."""
    alone = {"subjects": [""] * 10, "ages": list(range(20, 30)), "genders": ["male"] * 10}
    finite = table([1.0] * 10, **alone).assign(age_low90=0.0, age_high90=60.0)
    infinite = finite.assign(age_low90=-np.inf, age_high90=np.inf)
    files = [write(f"{name}.csv", infinite if name in which else finite) for name in "ab"]
    record = compare(*files)
    (width,) = rows(record, "age_width90")
    assert width["verdict"] == (f"{said} infinite: not tested" if said else "not significant at 5 %")
    assert (width["p"], width["p_holm"]) == ((None, None) if said else (1, 1))
    assert width["faces"] == 10
    assert width.get("not_finite", {}).get("value") == ("inf" if "b" in which else None)
    (mae,) = rows(record, "age_mae")
    assert mae["p"] == 1
    assert ("not tested" in capsys.readouterr().out) is bool(said)


def test_faces_that_two_folds_test_are_matched_by_fold(compare, tmp_path):
    both = pd.concat([table([1] * 6, fold=0), table([3] * 6, fold=1)], ignore_index=True)
    other = pd.concat([table([1] * 6, fold=0), table([5] * 6, fold=1)], ignore_index=True)
    record = compare(crossval_folder(tmp_path / "x", [both]), crossval_folder(tmp_path / "y", [other]))
    (mae,) = rows(record, "age_mae")
    assert (mae["baseline"], mae["value"], mae["faces"], mae["subjects"]) == (2, 3, 12, 5)


def test_a_trained_run_is_compared_with_its_own_table(trained, compare, capsys):
    record = compare(trained, trained / "predictions" / "test.parquet")
    metrics = json.loads((trained / "run.json").read_text())
    assert record["baseline"]["test_fingerprint"] == metrics["data"]["fingerprints"]["test"]
    assert record["baseline"]["recorded"]["protocol"] == "subject_exclusive"
    for row in record["comparisons"]:
        assert row["baseline"] == pytest.approx(metrics["test"][f"test/{row['metric']}"], abs=1e-5)
    assert "seeds 0" in capsys.readouterr().out


def test_of_a_folder_of_runs_the_newest_tested_one_is_compared(trained, compare, tmp_path):
    for name in ("2026-01-01", "2026-01-02"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    shutil.copytree(trained / "predictions", tmp_path / "runs" / "2026-01-01" / "predictions")
    record = compare(tmp_path / "runs", trained)
    assert all(each["difference"] == 0 for each in record["comparisons"])


def a_report(folder, frame, data, **record):
    folder.mkdir(parents=True)
    frame.to_parquet(folder / "predictions.parquet")
    (folder / "run.json").write_text(json.dumps({"data": data} | record))
    return folder


def test_a_report_on_other_data_is_quoted_with_these_and_the_seed_of_the_checkpoint(compare, tmp_path):
    """It lies inside a run on a dataset of its own."""
    run = a_report(tmp_path / "run", table([1] * 6), {"dataset": "morph"}, seed=3)
    (run / "config.yaml").write_text("seed_everything: 3\n")
    there = {"dataset": "adience", "protocol": "folds", "fold": 2}
    new = a_report(run / "evaluation-adience", table([2] * 6), there, trained_on={"seed": 3})
    (new / "config.yaml").write_text("seed_everything: 0\n")
    old = a_report(run / "evaluation-old", table([2] * 6), there, checkpoint=str(run / "checkpoints/x"))
    for quoted in (compare(new, new / "predictions.parquet"), compare(old, old)):
        for side in (quoted["baseline"], quoted["others"][0]):
            assert side["recorded"]["dataset"] == "adience"
            assert (side["recorded"]["folds"], side["recorded"]["seeds"]) == ([2], [3])


def test_a_pooled_table_is_quoted_with_its_own_seed(compare, tmp_path):
    folder = crossval_folder(tmp_path / "x", [table([2] * 6), table([4] * 6)]) / "crossval"
    report = folder / "report-seed0"
    report.mkdir()
    table([2] * 6).to_parquet(report / "predictions.parquet")
    record = compare(folder / "predictions" / "seed1.parquet", folder, report)
    sides = [record["baseline"], *record["others"]]
    assert [side["recorded"]["seeds"] for side in sides] == [[1], [0, 1], [0]]


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (table([1] * 6).iloc[:5], "1 of 6 are only in a.csv, such as set/5.jpg"),
        (table([1] * 6, id=[f"set/{n}.jpg" for n in (0, 1, 2, 3, 4, 9)]), "1 of 6 are only in a.csv"),
        (table([1] * 6, ages=[20, 31, 40, 50, 60, 71]), "label_age_low of 2 of 6 faces, first set/1.jpg: 30"),
        (table([1] * 6, genders=["male"] * 6), "of 3 of 6 faces, first set/1.jpg: female and male"),
        (table([1] * 6, id=["x"] * 6), "5 ids are repeated, such as x"),
        (table([1] * 6).drop(columns="id"), "no column id"),
        (table([1] * 6)[["id", "label_age_low", "label_age_high"]], "no predictions"),
    ],
)  # fmt: skip
def test_what_cannot_be_paired_is_refused(fails, write, monkeypatch, tmp_path, other, said):
    monkeypatch.chdir(tmp_path)
    write("a.csv", table([4] * 6))
    write("b.csv", other)
    assert said in fails("compare", "a.csv", "b.csv")


def test_other_folds_are_refused(fails, write):
    a, b = (
        write(f"{n}.csv", table([1] * 6, fold=fold)) for n, fold in (("a", [0, 1] * 3), ("b", [1, 1] * 3))
    )
    assert "differ in fold of 3 of 6 faces" in fails("compare", a, b)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere", "nowhere"], "nowhere: no predictions"),
        (["a.csv", "a.csv", "--out", "x.txt"], "ending in .json, .csv, .md, .tex, .html"),
        (["a.csv", "a.csv", "--draws", "0"], "must be a whole number from 1"),
    ],
)
def test_mistakes(fails, write, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    write("a.csv", table([4] * 6))
    assert said in fails("compare", *args)


def test_files_are_written_in_every_format(write, tmp_path):
    file, other = write("a.csv", table([4] * 6)), write("b_1.csv", table([1] * 6))
    outs = [tmp_path / f"out.{ending}" for ending in ("json", "csv", "md", "tex", "html", "pdf")]
    main(["compare", str(file), str(other), "--draws", "100", "--out", *map(str, outs)])
    tex = outs[3].read_text()
    assert "\nmetric & a & b\\_1 \\\\\n" in tex
    assert "age MAE (years) & 4.00 & 1.00 ($-3.00$, $-3.00$ to $-3.00$) " in tex
    assert "paired permutation test" in tex
    page = outs[4].read_text()
    assert page.count("<figure>") == 1
    assert "image/svg+xml" in page
    assert "not significant at 5 %" in page
    assert outs[5].read_bytes().startswith(b"%PDF")
    assert len(pd.read_csv(outs[1])) == len(json.loads(outs[0].read_text())["comparisons"])
    assert pd.read_csv(outs[1])["test_fingerprint"].str.len().eq(64).all()
    assert outs[2].read_text().startswith("# Compared with ")
