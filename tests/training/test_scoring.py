"""``mtmsa evaluate --predictions``: the report on another program's predictions, and its comparison."""

import json

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.run_json import read_record


@pytest.fixture
def theirs(trained, tmp_path):
    """Predictions of 13 of the 15 test faces, by absolute path, one year too high; and a stray one."""
    ours = pd.read_parquet(trained / "predictions" / "test.parquet")
    table = pd.DataFrame({"file": "/elsewhere/" + ours["file"], "pred_age": ours["label_age_low"] + 1})
    file = tmp_path / "theirs.csv"
    pd.concat([table[2:], pd.DataFrame({"file": ["no.jpg"], "pred_age": [3.0]})]).to_csv(file, index=False)
    return file


def test_the_report_of_another_program_and_its_comparison_with_ours(
    trained, tiny_config, theirs, undrawn, tmp_path, capsys, fails
):
    main(["evaluate", "--predictions", str(theirs), "--config", str(tiny_config), "--faces", "false"])
    printed = capsys.readouterr().out
    assert "13 of 15 test faces have a prediction, matched by path; 2 have none." in printed
    assert "Of 14 predictions 1 match no face of the dataset" in printed
    folder = tmp_path / "theirs-evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["scalars"]["age_mae"] == pytest.approx(1)
    assert metrics["scalars"]["age_bias"] == pytest.approx(1)
    assert "age_crps" in metrics["left_out"]
    page = (folder / "report.html").read_text()
    for said in (
        "These metrics are of 13 of 15 faces.",
        "Left out, because",
        "age CRPS (years)",
        "Guessing one",
    ):
        assert said in page
    assert "Not calibrated" not in page
    assert str(tmp_path) not in (folder / "metrics.json").read_text().partition('"command"')[0]
    assert read_record(folder)["matching"]["missing"] == 2

    out = tmp_path / "compared.json"
    main(["compare", str(trained), str(folder), "--draws", "50", "--out", str(out)])
    record = json.loads(out.read_text())
    (mae,) = [row for row in record["comparisons"] if row["metric"] == "age_mae"]
    ours = pd.read_parquet(trained / "predictions" / "test.parquet")[2:]
    mean = ours["age_mean_unclipped"] if "age_mean_unclipped" in ours else ours["age_mean"]
    assert mae["baseline"] == pytest.approx(np.abs(mean - ours["label_age_low"]).mean())
    assert (mae["value"], mae["faces"]) == (pytest.approx(1), 13)
    assert record["others"][0]["recorded"]["faces_without_prediction"] == 2
    printed = capsys.readouterr().out
    assert "training faces not known, could include these test faces" in printed
    assert "None" not in printed

    table = pd.read_csv(theirs)
    table.assign(pred_age=table["pred_age"] + 60).to_csv(theirs, index=False)
    main(["evaluate", "--predictions", str(theirs), "--config", str(tiny_config), "--faces", "false"])
    assert "age MAE of 61.00 years is worse than" in capsys.readouterr().out
    assert "mtmsa evaluate --predictions theirs.csv" in fails("compare", trained, theirs)


def test_what_is_no_table_of_predictions_is_refused_early(theirs, tiny_config, tmp_path, fails):
    assert "exclude each other" in fails("evaluate", "--predictions", theirs, "--ckpt_path", theirs)
    assert "no such file" in fails("evaluate", "--predictions", tmp_path / "no.csv", "--config", tiny_config)
    assert "name a config" in fails("evaluate", "--predictions", theirs)
    assert "give --ckpt_path or --predictions" in fails("evaluate")
    message = fails(
        "evaluate", "--predictions", theirs, "--config", tiny_config, "--min_matched", 0.9, "--faces", "false"
    )
    assert "too few test faces have a prediction" in message
    (tmp_path / "theirs-evaluation").mkdir(exist_ok=True)
    (tmp_path / "theirs-evaluation" / "mine.txt").touch()
    assert "holds other files" in fails("evaluate", "--predictions", theirs, "--config", tiny_config)
