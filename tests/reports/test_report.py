"""The report: recomputed by numpy alone, complete, self-contained, and silent where there are no labels."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.attention import Attention
from mtmsa_lightning.reports.report import CONTENT, copy_without_faces, write_report
from mtmsa_lightning.reports.report_context import ReportContext

FINGERPRINT = "2f54381507f57b86" * 4
DATA = {
    "dataset": "set", "protocol": "subject_exclusive", "fold": 3, "split_seed": 0,
    "label_rule": "exact ages of the set", "crop": 0.85, "image_size": 64, "subjects_in_two_parts": None,
    "gender_classes": ["male", "female"], "race_classes": ["white", "black", "asian"],
    "fingerprints": {"train": "c" * 64, "calibration": "d" * 64, "test": FINGERPRINT, "labels": "e" * 64},
    "faces": {"train": 900, "val": 100, "test": 300},
}  # fmt: skip
CONTEXT = ReportContext(
    "an experiment", DATA, "runs/a/checkpoints/best.ckpt", DATA | {"dataset": "another"}, seed=7,
    versions={"torch": "2.14.1"}, command="mtmsa evaluate --ckpt_path runs/a",
)  # fmt: skip
CALIBRATION = {
    "sigma_scale": 1.2, "temperatures": {"gender": 1.1},
    "quantiles": {"0.5": 0.7, "0.8": 1.3, "0.9": 1.7, "0.95": None},
    "max_width": 30.0, "min_group_prob": None,
    "fitted_on": {
        "dataset": "set", "protocol": "subject_exclusive", "fold": 3, "split_seed": 0,
        "label_rule": "exact ages of the set", "part": "calibration", "fingerprint": "d" * 64,
        "faces": 90, "subjects": 30, "unit": "subjects", "chose_checkpoint": False,
    },
    "metrics": {"test": {"before": {
        "coverage": {"50": 0.41, "80": 0.7, "90": 0.81, "95": 0.9},
        "width": {"50": 5.0, "80": 9.0, "90": 12.0, "95": 15.0},
    }}},
}  # fmt: skip


class Page(HTMLParser):
    """The texts and the addresses of a page; fails where tags are not closed in order."""

    def __init__(self, file):
        super().__init__()
        self.open, self.texts, self.addresses = [], [], []
        self.feed(file.read_text())
        assert self.open == []
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def names(folder, pattern):
    return {str(file.relative_to(folder)) for file in folder.glob(pattern)}


def attention():
    scales = {"stage": 2, "rate": [1, 2], "decade": 20, "weight": [0.4, 0.6], "faces": 50}
    weights = pd.DataFrame(scales)
    face = np.full((64, 64, 3), 200, np.uint8)
    return Attention(("a",), (23.0,), (face,), {2: np.zeros((1, 8, 8), np.float32)}, weights)


@pytest.fixture(scope="module")
def report(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    face = np.zeros((64, 64, 3), np.uint8)
    metrics = write_report(simulated(), folder, CONTEXT, images=lambda name: face, attention=attention())
    return folder, metrics


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_headline_is_recomputed_from_the_predictions_with_numpy_alone(report, suffix):
    folder, _ = report
    file = folder / f"predictions{suffix}"
    table = pd.read_parquet(file) if suffix == ".parquet" else pd.read_csv(file, keep_default_na=True)
    headline = pd.read_csv(folder / "tables" / "metrics.csv").set_index("name")
    age = table["label_age_low"].to_numpy(float)
    known = ~np.isnan(age)
    age, mean, std = age[known], table["age_mean"].to_numpy()[known], table["age_std"].to_numpy()[known]
    error = mean - age
    low, high = (table[f"age_{end}90"].to_numpy()[known] for end in ("low", "high"))
    expected = {
        "age_mae": np.abs(error).mean(),
        "age_rmse": np.sqrt((error**2).mean()),
        "age_bias": error.mean(),
        "age_cs5": (np.abs(error) <= 5).mean(),
        "age_nll": (0.5 * (error / std) ** 2 + np.log(std) + 0.5 * np.log(2 * np.pi)).mean(),
        "age_coverage90": ((low <= age) & (age <= high)).mean(),
        "age_width90": (high - low).mean(),
    }
    for task, classes in (("gender", ("male", "female")), ("race", ("white", "black", "asian"))):
        probs = table[[f"{task}_{name}" for name in classes]].to_numpy()[known]
        right = np.array(classes)[probs.argmax(axis=1)] == table[f"label_{task}"].to_numpy()[known]
        expected[f"{task}_acc"] = right.mean()
    for name, value in expected.items():
        assert headline["value"][name] == pytest.approx(value, abs=1e-6), name
        assert headline["faces"][name] == known.sum() == 270
    assert headline["low95"]["age_mae"] < headline["value"]["age_mae"] < headline["high95"]["age_mae"]


def test_the_page_says_what_its_metrics_must_be_quoted_with(report):
    page = Page(report[0] / "report.html")
    for said in (
        "300 faces", "subject_exclusive, fold 3", FINGERPRINT, "exact ages of the set", "0 male, 1 female",
        "0 white, 1 black, 2 asian", "85 % of the shorter side, 64 px", "runs/a/checkpoints/best.ckpt",
        "another, subject_exclusive", "torch 2.14.1", "mtmsa evaluate --ckpt_path runs/a", "270",
        "age MAE (years)", "Not calibrated",
    ):  # fmt: skip
        assert said in page.text, said
    mae = pd.read_csv(report[0] / "tables" / "metrics.csv").set_index("name")["value"]["age_mae"]
    assert f"{mae:.2f}" in page.texts


def test_a_report_on_part_of_the_test_part_says_so_wherever_metrics_stand(simulated, tmp_path, undrawn):
    note = "partial: 300 of 900 faces of the test part"
    write_report(simulated(), tmp_path, replace(CONTEXT, partial=note))
    assert (tmp_path / "report.html").read_text().count(note) >= 3, "title, headline, quotes"
    assert json.loads((tmp_path / "metrics.json").read_text())["quoted_with"]["faces"] == note
    tables = list((tmp_path / "tables").glob("*.csv"))
    assert len(tables) > 5
    for file in tables:
        assert (pd.read_csv(file)["partial"] == note).all(), file


def test_the_page_needs_no_network(report):
    page = Page(report[0] / "report.html")
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(
        r"<(script|link|iframe|object)|@import|url\(", (report[0] / "report.html").read_text()
    )


OTHER_TABLES = {
    "error_by_age", "metrics", "quoted_with", "faces", "subgroup_gaps", "subgroup_differences",
    "subgroup_confusion", "equalised_odds", "thresholds", "age_band", "age_cells", "age_errors",
    "over_time_gaps", "over_time_variance", "over_time_averaging",
}  # fmt: skip


def test_plots_and_tables_lie_beside_the_page(report):
    folder, _ = report
    drawn = {
        "cumulative_score", "predicted_against_true", "confusion_age_groups",
        "interval_coverage", "risk_coverage", "confusion_gender", "confusion_race", "reliability_gender",
        "reliability_race", "subgroups", "attention_maps", "scale_weights", "metrics_by_group",
        "passed_by_age", "over_time",
    }  # fmt: skip
    assert names(folder / "plots", "*") == {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    assert names(folder / "tables", "*") == {
        f"{name}.csv"
        for name in (drawn | OTHER_TABLES)
        - {"predicted_against_true", "attention_maps", "metrics_by_group", "passed_by_age", "over_time"}
    }
    assert not [file for file in folder.rglob("*") if file.name.startswith(".")], "nothing half written"


def test_metrics_json_is_strict_and_quotes_its_data(report):
    folder, metrics = report

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)
    assert from_json((folder / "metrics.json").read_text()).keys() == metrics.keys()
    assert read["scalars"].keys() - metrics["scalars"].keys() <= {"not_finite"}
    assert read["quoted_with"]["split fingerprint (test)"] == FINGERPRINT
    assert read["scalars"]["age_mae"] > 0


def test_the_worst_face_has_the_largest_error(report, simulated):
    table = simulated()
    faces = pd.read_csv(report[0] / "tables" / "faces.csv")
    error = (table["age_mean"] - table["label_age_low"]).abs()
    worst = faces[faces["kind"] == "worst"]
    assert worst["id"].tolist() == table["id"][error.sort_values(ascending=False).index[:8]].tolist()
    best = faces[faces["kind"] == "best"]
    assert best["id"].tolist() == table["id"][error.sort_values().index[:8]].tolist()
    unsure = faces[faces["kind"] == "most uncertain"]
    assert unsure["std"].tolist() == sorted(table["age_std"], reverse=True)[:8]


def test_photos_are_shown_only_when_they_are_wanted(report, simulated, tmp_path, undrawn):
    shown = Page(report[0] / "report.html")
    assert sum(address.startswith("data:image/jpeg") for address in shown.addresses) == 24
    assert "This page shows photos of people" in shown.text
    write_report(simulated(60), tmp_path, CONTEXT, images=None, attention=attention())
    hidden = Page(tmp_path / "report.html")
    assert not [address for address in hidden.addresses if address.startswith("data:image/jpeg")]
    assert "shows photos" not in hidden.text
    assert "set/0" in hidden.text, "the faces are listed instead"
    assert not (tmp_path / "plots" / "attention_maps.svg").exists()
    assert (tmp_path / "plots" / "scale_weights.svg").exists()


def test_nothing_of_an_older_report_stays(simulated, tmp_path, undrawn):
    write_report(simulated(60), tmp_path, CONTEXT, lambda name: np.zeros((64, 64, 3), np.uint8), attention())
    assert (tmp_path / "plots" / "attention_maps.svg").is_file()
    (tmp_path / "run.json").write_text("{}")
    write_report(simulated(60), tmp_path, CONTEXT, None, attention())
    assert names(tmp_path, "**/attention_maps*") == set()
    assert "data:image/jpeg" not in (tmp_path / "report.html").read_text()
    assert names(tmp_path, "*") == {*CONTENT, "run.json"}


def test_a_report_that_cannot_be_made_leaves_the_older_one_whole(simulated, tmp_path, undrawn):
    write_report(simulated(60), tmp_path, CONTEXT, None, attention())
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def broken(name):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_report(simulated(59), tmp_path, CONTEXT, broken)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert not (tmp_path / ".new").exists()


def test_a_copy_without_faces_has_neither_photos_nor_ids(simulated, tmp_path, undrawn):
    photo = lambda name: np.zeros((64, 64, 3), np.uint8)  # noqa: E731
    for number, images in enumerate((photo, None)):
        write_report(simulated(60), tmp_path / "report", CONTEXT, images, attention())
        copy_without_faces(tmp_path / "report", tmp_path / f"copy{number}")
        whole, copy = ((folder / "report.html").read_text() for folder in
                       (tmp_path / "report", tmp_path / f"copy{number}"))  # fmt: skip
        assert "set/0" in whole
        files = [file for file in (tmp_path / f"copy{number}").rglob("*") if file.is_file()]
        assert not any("set/" in file.read_text() for file in files if file.suffix in (".html", ".csv"))
        assert "data:image/jpeg" not in copy
        assert "private-->" not in copy
        assert "All metrics" in copy
        assert "Multi-scale attention" in copy
        assert not any("attention_maps" in file.name or file.name == "faces.csv" for file in files)
        Page(tmp_path / f"copy{number}" / "report.html")  # closed in order


def test_age_groups_give_group_metrics_and_nothing_in_years(simulated, tmp_path, undrawn):
    data = DATA | {"race_classes": []}
    found = write_report(simulated(120, groups=True, race=False), tmp_path, replace(CONTEXT, data=data))
    assert {"group_acc", "group_acc_1off", "age_interval_nll", "age_coverage90"} <= found["scalars"].keys()
    assert not {"age_mae", "age_cs5", "race_acc"} & found["scalars"].keys()
    matrix = pd.read_csv(tmp_path / "tables" / "confusion_age_groups.csv").set_index("label").to_numpy()
    assert np.trace(matrix) / matrix.sum() == pytest.approx(found["scalars"]["group_acc"])
    near = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) <= 1
    assert matrix[near].sum() / matrix.sum() == pytest.approx(found["scalars"]["group_acc_1off"])
    page = Page(tmp_path / "report.html")
    assert "age group 1-off accuracy" in page.text
    assert "age MAE" not in page.text
    assert "race classes none" in page.text
    assert "multi-scale attention" not in page.text.lower()
    drawn = names(tmp_path / "plots", "*.svg")
    assert {
        "confusion_age_groups.svg",
        "subgroups.svg",
        "interval_coverage.svg",
        "risk_coverage.svg",
    } <= drawn
    assert not drawn & {"cumulative_score.svg", "predicted_against_true.svg", "confusion_race.svg"}


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.head(1),
        lambda table: table.assign(label_gender="male", label_race="white"),
        lambda table: table.assign(label_race=""),
        lambda table: table.assign(label_age_low=np.nan, label_age_high=np.nan),
        lambda table: table[[name for name in table if not name.startswith("age_")]],
        lambda table: table.assign(age_mean=35.0, age_std=10.0),
    ],
    ids=["one face", "one class", "no race labels", "no age labels", "no age head", "equal predictions"],
)
def test_a_report_is_written_of_whatever_there_is(simulated, tmp_path, undrawn, change):
    write_report(change(simulated(40)), tmp_path, CONTEXT)
    assert "nan" not in Page(tmp_path / "report.html").text


def test_predictions_without_any_label_are_refused(simulated, tmp_path):
    table = simulated(20).assign(label_age_low=np.nan, label_age_high=np.nan, label_gender="", label_race="")
    with pytest.raises(DataError, match="no labels"):
        write_report(table, tmp_path / "new", CONTEXT)
    assert not (tmp_path / "new").exists()


def test_a_calibration_is_described_with_coverage_before_and_beside_its_target(simulated, tmp_path, undrawn):
    table = simulated(90)
    table["unsure"] = table["age_std"] > 8
    for level, factor in ((50, 0.7), (80, 1.3), (90, 1.7), (95, np.inf)):
        table[f"age_low{level}"] = table["age_mean"] - factor * table["age_std"]
        table[f"age_high{level}"] = table["age_mean"] + factor * table["age_std"]
    table.loc[:5, "subject"] = "set/0"  # one subject has six faces
    found = write_report(table, tmp_path, replace(CONTEXT, calibration=CALIBRATION))
    known = table.dropna(subset="label_age_low")
    inside = known["label_age_low"].between(known["age_low90"], known["age_high90"])
    by_subject = inside.groupby(known["subject"]).mean().mean()
    assert found["scalars"]["age_coverage90"] == pytest.approx(inside.mean()), "the conformal interval"
    page = Page(tmp_path / "report.html")
    assert page.text.count(" sd") == 3, "an interval without end covers by itself: it is not judged"
    deviation = np.sqrt(0.9 * 0.1 * (1 / 30 + 1 / known["subject"].nunique()))
    unsure = table["unsure"]
    kept = (table["age_mean"] - table["label_age_low"])[~unsure].abs().mean()
    for said in (
        "Calibrated on the calibration part of set", "Conformal intervals of age",
        "coverage before", "81.0 %",
        f"{100 * by_subject:.1f} %", f"{(by_subject - 0.9) / deviation:+.1f} sd",
        f"{unsure.mean():.1%}".replace("%", " %") + f" of the faces ({unsure.sum()}) are unsure",
        f"of the others {kept:.2f}", "infinite",
    ):  # fmt: skip
        assert said in page.text, said
    assert "also chose the checkpoint" not in page.text


def test_a_calibration_on_the_part_that_chose_the_checkpoint_is_called_out(simulated, tmp_path, undrawn):
    chose = CALIBRATION | {"fitted_on": CALIBRATION["fitted_on"] | {"chose_checkpoint": True}}
    write_report(simulated(60), tmp_path, replace(CONTEXT, calibration=chose))
    page = Page(tmp_path / "report.html")
    assert "fitted on the part that also chose the checkpoint" in page.text


@pytest.mark.parametrize("other", [{"fold": 0}, {"label_rule": "another"}, {"fingerprint": "a" * 64}])
def test_coverage_before_is_that_of_the_same_faces_or_not_shown(simulated, tmp_path, undrawn, other):
    elsewhere = CALIBRATION | {"fitted_on": CALIBRATION["fitted_on"] | other}
    write_report(simulated(60), tmp_path, replace(CONTEXT, calibration=elsewhere))
    assert "coverage before" not in Page(tmp_path / "report.html").text


def test_without_subjects_faces_are_the_units_and_nothing_is_said_of_subjects(simulated, tmp_path, undrawn):
    context = replace(CONTEXT, calibration=CALIBRATION)
    write_report(simulated(400).assign(subject=""), tmp_path, context)
    text = Page(tmp_path / "report.html").text
    assert "intervals over faces" in text
    assert "by subject" not in text
    assert "gap to target" in text


def test_scales_of_too_few_faces_have_no_mean_weights(simulated, tmp_path, undrawn):
    seen = attention()
    few = seen._replace(weights=seen.weights.assign(weight=np.nan, faces=49))
    write_report(simulated(60), tmp_path, CONTEXT, attention=few)
    assert "No age decade has 50 faces" in Page(tmp_path / "report.html").text
    assert (tmp_path / "tables" / "scale_weights.csv").exists()
    assert not (tmp_path / "plots" / "scale_weights.svg").exists()


def test_faces_that_are_missing_and_subjects_in_both_parts_are_called_out(simulated, tmp_path, undrawn):
    data = DATA | {"subjects_in_two_parts": 0.959, "faces": {"test": 62}}
    write_report(simulated(60), tmp_path, replace(CONTEXT, data=data, notes=("a drawn subset",)))
    page = Page(tmp_path / "report.html")
    assert "95.9 % of the test images show a subject that was trained on." in page.text
    assert "Unreadable or skipped: 2 faces of the test part" in page.text
    assert "a drawn subset" in page.text


def test_without_a_decade_of_enough_faces_no_error_by_decade_is_drawn(simulated, tmp_path, undrawn):
    write_report(simulated(40), tmp_path, CONTEXT)
    text = Page(tmp_path / "report.html").text
    assert "no error by decade is shown" in text
    assert "No two groups of one kind have 50 faces" in text
    assert not (tmp_path / "plots" / "error_by_age.svg").exists()
    assert (tmp_path / "tables" / "error_by_age.csv").exists()
    write_report(simulated(600), tmp_path / "more", CONTEXT)
    assert (tmp_path / "more" / "plots" / "error_by_age.svg").exists()


def test_apparent_ages_are_evaluated_against_the_guesses(simulated, tmp_path, undrawn):
    table = simulated(300)
    guessed = table["label_age_low"] + 0.4
    table = table.assign(label_apparent_age=guessed, label_apparent_std=np.where(np.arange(300) < 5, 0, 4.0))
    metrics = write_report(table, tmp_path, CONTEXT)
    page = Page(tmp_path / "report.html")
    known = table[table["label_age_low"].notna()]
    difference = known["age_mean"] - known["label_apparent_age"]
    error = np.where(known["label_apparent_std"] > 0, 1 - np.exp(-(difference**2) / 32), difference != 0)
    assert metrics["scalars"]["apparent_epsilon"] == pytest.approx(error.mean())
    assert f"{error.mean():.3f}" in page.texts
    assert "(5 of 270 faces)" in page.text
    rows = pd.read_csv(tmp_path / "tables" / "metrics.csv").set_index("name")
    assert rows["low95"]["apparent_epsilon"] < error.mean() < rows["high95"]["apparent_epsilon"]
    assert rows["faces"]["apparent_crps"] == 270
    assert (tmp_path / "plots" / "votes_coverage.svg").exists()
    plain = write_report(simulated(60), tmp_path, CONTEXT)
    assert not [name for name in plain["scalars"] if name.startswith("apparent")]
    assert "Apparent age" not in Page(tmp_path / "report.html").text
