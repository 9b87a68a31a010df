"""The model card says what was recorded, and of the rest that it was not."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from seen_html import HOSTILE

from mtmsa_lightning.reports.card import card_of_checkpoint, model_card
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.runs.checkpoints import read_checkpoint, weights_digest

GROUPS = """by,gender,race,age,faces,subjects,age_faces,age_mae,age_mae_low,age_mae_high,note
all,,,,300,100,300,6.25,5.5,7.0,
gender,female,,,120,40,120,7.5,6.0,9.0,
gender,male,,,180,60,180,5.4,4.5,6.3,
race,,white,,30,10,30,,,,no metrics: fewer than 50 faces
gender x race,female,white,,12,4,12,,,,no metrics: fewer than 50 faces
age,,,20-29,290,97,290,6.0,5.0,7.0,
"""
_ENDS = ",".join(f"{end}{part}" for end in ("group_max", "group_min") for part in ("", "_low", "_high"))
GAPS = f"""by,metric,groups,difference,difference_low,difference_high,ratio,{_ENDS},\
group_max_name,group_max_faces,group_min_name,group_min_faces
gender,age_mae,2,2.1,0.4,3.9,0.72,7.5,6.0,9.0,5.4,4.5,6.3,female,120,male,180
gender,age_bias,2,1.0,0.1,2.0,,1,0.5,1.5,0,-0.5,0.5,female,120,male,180
"""
METRICS = """name,value,low95,high95,faces
age_mae,6.25,5.5,7.0,300
gender_acc,0.875,,,300
"""
OPTIMISER = {
    "class_path": "torch.optim.AdamW",
    "init_args": {
        "lr": 0.0003, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.05, "amsgrad": False,
        "fused": None,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(trained):
    return read_checkpoint(trained)


@pytest.fixture(scope="module")
def evaluated(checkpoint, trained, tmp_path_factory):
    """Records of a run and of an evaluation, the latter made up."""
    folder = tmp_path_factory.mktemp("tables")
    for name, text in (("metrics", METRICS), ("subgroups", GROUPS), ("subgroup_gaps", GAPS)):
        (folder / "evaluation" / "tables").mkdir(parents=True, exist_ok=True)
        (folder / "evaluation" / "tables" / f"{name}.csv").write_text(text)
    quoted = {"dataset": "morph", "protocol": "subject_exclusive, fold 0", "checkpoint": "/home/me/best.ckpt"}
    metrics = {
        "quoted_with": quoted | {"command": "mtmsa evaluate /home/me"},
        "faces": 310,
        "labelled": {"exact": 300, "age": 300},
        "scalars": {"age_mae": 6.25, "gender_acc": 0.875},
    }
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    (folder / "evaluation" / "run.json").write_text('{"constant_age_mae": 12.5}')
    return folder / "evaluation"


GUESS = "age MAE of guessing the mean training age (years)"


def front(card: str) -> dict:
    _, matter, _ = card.split("---\n", 2)
    return yaml.safe_load(matter)


def value(card: str, what: str) -> str:
    (row,) = [line for line in card.splitlines() if line.startswith(f"| {what} | ")]
    return row.split(" | ", 1)[1].removesuffix(" |")


def test_a_card_repeats_the_runs_own_records(trained):
    card = card_of_checkpoint(trained / "checkpoints" / "best.ckpt")
    record = json.loads((trained / "run.json").read_text())
    data = record["data"]
    assert value(card, "dataset") == "synthetic-morph", "no card claims metrics on MORPH"
    assert value(card, "protocol") == "subject_exclusive, fold 0, split seed 0"
    assert value(card, "label rule") == data["label_rule"]
    assert value(card, "fingerprint, train") == f"`{data['fingerprints']['train']}`"
    assert value(card, "faces, train") == str(data["faces"]["train"])
    assert value(card, "rows kept") == str(data["rows"]["kept"])
    assert value(card, "seed") == "0"
    assert value(card, "epochs") == "2"
    assert value(card, "initial weights") == "random"
    assert f"torch {record['versions']['torch']}" in value(card, "versions")
    assert value(card, "gender classes") == "0 male, 1 female"
    assert value(card, "age MAE (years)") == f"{record['test']['test/age_mae']:.2f}"
    assert value(card, GUESS) == f"{record['constant_age_mae']:.2f}"
    assert "intervals are not recorded" in card
    assert "Metrics by group are not recorded" in card
    assert "Not calibrated" in card
    assert "10.1049/sil2.12190" in card
    assert front(card) | {"tags": None} == {
        "license": "other", "library_name": "mtmsa-lightning", "pipeline_tag": "image-classification",
        "tags": None, "datasets": ["synthetic-morph"],
    }  # fmt: skip


def test_hardware_is_recorded_by_the_run_and_energy_is_said_not_to_be(trained):
    card = card_of_checkpoint(trained / "checkpoints" / "best.ckpt")
    record = json.loads((trained / "run.json").read_text())
    assert record["fit_seconds"] > 0
    assert value(card, "device") == "cpu"
    assert value(card, "processes") == "1"
    assert value(card, "processor") == record["hardware"]["processor"]
    assert value(card, "training time") == f"{record['fit_seconds'] / 3600:.2f} hours"
    assert value(card, "energy") == "not measured"


def test_an_evaluation_gives_metrics_with_intervals_groups_and_gaps(trained, evaluated):
    card = card_of_checkpoint(trained / "checkpoints" / "best.ckpt", evaluated)
    metrics = card.partition("\n## Who it is wrong for\n")[0]
    assert value(metrics, "age MAE (years)") == "6.25 | 5.50 to 7.00 | 300"
    assert value(card, GUESS) == "12.50 | - | 300"
    assert value(metrics, "gender accuracy") == "87.5 % | - | 300"
    assert "| gender | female | 120 | 7.50 | 6.00 to 9.00 |" in card
    assert "| race | white | 30 | - | - |" in card, "too few faces"
    assert "| age | 20-29 | 290 | 6.00 | 5.00 to 7.00 |" in card
    assert "gender x race" not in card
    assert "| gender | 2.10 | 0.40 to 3.90 | female: 7.50 | male: 5.40 |" in card
    assert "ages are estimated worst for female (7.50 years), against 6.25 years for all faces." in card
    assert "| age MAE (years) | - | all faces | 300 | 6.25 (5.50 to 7.00) | - | - | - |" in card
    assert (
        "| age MAE (years) | gender | female | 120 | 7.50 (6.00 to 9.00) | male (180): 5.40 | 0.40 to 3.90 "
        "years | yes |"
    ) in card
    assert "/home/me" not in card
    (result,) = front(card)["model-index"][0]["results"]
    assert result["dataset"] == {"type": "morph", "name": "morph (subject_exclusive, fold 0)"}
    assert result["metrics"][0] == {"type": "age_mae", "name": "age MAE (years)", "value": 6.25}


def sources(checkpoint, **changes) -> Sources:
    empty = Sources(checkpoint, "best", training={}, seed=None, tested={}, metrics={}, tables={})
    return replace(empty, **changes)


def test_a_mixture_has_metrics_by_dataset(checkpoint):
    tested = {"test/age_mae": 5.0, "test/morph/age_mae": 4.0, "test/adience/group_acc": 0.5, "test/loss": 1.0}
    card = model_card(sources(checkpoint, training={"test": tested}))
    assert "| metric | morph | adience |" in card
    assert "| age MAE (years) | 4.00 | - |" in card
    assert "| age group accuracy | - | 50.0 % |" in card
    card = model_card(sources(checkpoint, training={"test": {"test/age_mae": 5.0}}))
    assert "By dataset" not in card


def test_settings_are_written_for_readers(checkpoint):
    settings = {**checkpoint["hyper_parameters"], "optimizer": OPTIMISER}
    card = model_card(sources({**checkpoint, "hyper_parameters": settings}))
    assert value(card, "optimiser") == "AdamW"
    assert value(card, "learning rate") == "0.0003"
    assert value(card, "betas") == "0.9, 0.999"
    assert value(card, "eps") == "1e-08"
    assert value(card, "weight decay") == "0.05"
    assert value(card, "schedule") == "WarmupCosine (warmup 0.05, final 0.01)"
    assert value(card, "labels learnt from") == "age in years, gender, race"
    for unset in ("amsgrad", "fused", "None", "False", "class_path", "{", "["):
        assert unset not in card
    scaled = model_card(
        sources({**checkpoint, "hyper_parameters": settings}, training={"learning_rate": 0.012})
    )
    assert value(scaled, "learning rate") == "0.012"


def test_a_run_is_called_as_its_settings_call_it_now(trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "moved", copy_function=os.link))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").unlink()
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"name": "renamed"}))
    assert "\n# renamed\n" in card_of_checkpoint(run / "checkpoints" / "best.ckpt")


def test_what_is_not_recorded_is_said_to_be_so(checkpoint):
    bare = {"hyper_parameters": checkpoint["hyper_parameters"]}
    card = model_card(sources(bare))
    assert "The training data is not recorded in the checkpoint." in card
    assert "Metrics are not recorded" in card
    for what in (
        "epochs",
        "best epoch",
        "batch size",
        "seed",
        "commit",
        "device",
        "processor",
        "training time",
        "versions",
    ):
        assert value(card, what) == "not recorded"
    assert "datasets" not in front(card)
    assert "model-index" not in front(card)


def test_metrics_of_another_calibration_are_marked(checkpoint, evaluated):
    calibration = {
        "sigma_scale": 1.2, "temperatures": {"gender": 0.9}, "quantiles": {"0.9": 1.7}, "max_width": None,
        "min_group_prob": None, "metrics": {},
        "fitted_on": {
            "part": "calibration", "dataset": "morph", "protocol": "subject_exclusive", "fold": 0,
            "faces": 90, "subjects": 30, "unit": "subjects", "chose_checkpoint": False,
        },
    }  # fmt: skip
    metrics = json.loads((evaluated / "metrics.json").read_text())
    tables = {
        name: pd.read_csv(evaluated / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
        for name in ("metrics", "subgroups", "subgroup_gaps")
    }
    calibrated = {**checkpoint, "calibration": calibration}
    other = calibration | {"sigma_scale": 1.3}
    now = sources(calibrated, metrics=metrics, tables=tables)
    card = model_card(now)
    assert "Calibrated on the calibration part of morph" in card
    assert "Conformal intervals of age at 90 %" in card
    weights = weights_digest(checkpoint["state_dict"])
    for shown, measured, says in (
        (calibrated, {}, "from before the calibration"),
        (calibrated, {"calibration": other}, "measured with another calibration"),
        (checkpoint, {"calibration": other}, "a calibration that has been removed"),
        (checkpoint, {"weights": "0" * 64}, "measured with other weights"),
        (calibrated, {"calibration": calibration, "weights": weights}, None),
        (checkpoint, {"weights": weights}, None),
        (calibrated, {"calibration": calibration | {"at_search_limit": []}}, None),
    ):
        card = model_card(replace(now, checkpoint=shown, tested=measured))
        recorded = {"test": {"test/age_nll": 3.0}, **measured}
        plain = model_card(sources(shown, training=recorded))
        marks = card.count("These metrics"), plain.count("These metrics")
        assert marks == ((0, 0) if says is None else (3, 1)), (
            "evaluation, groups and subgroups, or the test of the run"
        )
        assert ("model-index" in front(card)) == (says is None), "there a metric cannot be marked"
        if says:
            assert says in card
            assert says in plain


def test_limits_and_uses_stand_in_every_card(checkpoint):
    card = model_card(sources(checkpoint))
    for said in (
        "Any decision about a person on apparent age, gender or race alone",
        "Labels are what a dataset recorded",
        "2024/1689",
        "Article 9(1)",
        "Article 5(1)(g)",
        "Annex III, point 1(b)",
        "Article 50(3)",
        "nobody's terms",
    ):
        assert said in card


def test_a_cell_cannot_break_its_table(checkpoint):
    card = model_card(sources(checkpoint, training={"git_commit": "a|b"}))
    assert value(card, "commit") == "a/b"


def test_a_name_is_no_html(checkpoint):
    card = model_card(sources(checkpoint, training={"name": "<script>\n# x", "git_commit": "<b>"}))
    body = card.split("---\n", 2)[2]
    assert "# &lt;script> # x" in body
    assert "<" not in body
    assert "&gt;" not in body


def test_hostile_texts_stay_texts(checkpoint):
    hostile = HOSTILE + "|\n## Evaluation\n| age MAE (years) | 0.00 |"
    provenance = checkpoint["provenance"]
    provenance |= {"dataset": hostile, "label_rule": hostile, "earlier": [provenance | {"dataset": hostile}]}
    settings = checkpoint["hyper_parameters"] | {"gender_classes": [hostile, hostile]}
    training = {"name": hostile, "git_commit": hostile, "test": {"test/age_mae": 5.0}}
    card = model_card(
        sources({**checkpoint, "hyper_parameters": settings, "provenance": provenance}, training=training)
    )
    assert front(card)["datasets"] == [hostile]
    body = card.split("---\n", 2)[2]
    assert "<" not in body
    assert "{{ 7 * 7 }}" in body
    assert body.count("\n## Evaluation\n") == 1
    assert value(card, "age MAE (years)") == "5.00"
    assert "\n" not in value(card, "dataset")


def test_the_citation_is_in_the_wheel_and_in_the_source():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"CITATION.cff" = "mtmsa_lightning/CITATION.cff"' in text


def test_metrics_on_part_of_the_test_part_are_marked_and_not_indexed(checkpoint):
    seen = {"test": {"faces": 8, "unreadable": 0, "of": 15}}
    training = {"test": {"test/age_mae": 5.0, "test/age_crps": math.nan}, "seen": seen}
    quoted = {"dataset": "morph", "protocol": "p"}
    metrics = {"quoted_with": quoted, "faces": 8, "scalars": {"age_mae": 5.0, "age_crps": math.inf}}
    table = pd.DataFrame({"name": ["age_mae", "age_crps"], "low95": "", "high95": "", "faces": "8"})
    by_training = Sources(checkpoint, "best", training, 0, {}, {}, {})
    by_report = replace(by_training, tested={"seen": seen}, metrics=metrics, tables={"metrics": table})
    for sources, shown in ((by_training, "undefined"), (by_report, "inf")):
        card = model_card(sources)
        assert "These metrics are partial: 8 of 15 faces of the test part." in card
        assert value(card, "age CRPS (years)").split(" | ")[0] == shown
        assert "model-index" not in front(card)
