"""``mtmsa evaluate --matrix``: cells, marks, and what is not computed again."""

import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.synthetic import write_utkface
from mtmsa_lightning.evaluation.cross_data import Cell, matrix_table
from mtmsa_lightning.reports.matrix import text_table
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.training import matrix as module


@pytest.fixture
def configs(tiny_config, tmp_path):
    """The data of the run, its second fold, and another dataset with another crop."""
    text = tiny_config.read_text().partition("model:")[0]
    write_utkface(tmp_path / "utk", n_faces=60, seed=0, size=72)
    data = f"data: {{class_path: mtmsa_lightning.UTKFace, init_args: {{root: {tmp_path / 'utk'}, "
    contents = {
        "own": text,
        "fold1": text.replace("init_args: {", "init_args: {fold: 1, "),
        "other": data + "image_size: 72, batch_size: 8, num_workers: 0}}\n",
    }
    files = []
    for name, content in contents.items():
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(content)
    return files


def test_a_matrix_marks_overlap_and_crops_and_goes_on(
    trained, configs, undrawn, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "matrix"
    command = ["evaluate", "--matrix", str(trained), "--on", *map(str, configs), "--out", str(out)]
    main([*command, "--data.image_size", "72"])
    table = pd.read_csv(out / "matrix.csv").set_index("data")
    assert table.index.tolist() == ["own", "fold1", "other"]
    tested = pd.read_parquet(trained / "predictions" / "test.parquet")
    error = (tested["age_mean_unclipped"] - tested["label_age_low"]).abs().mean()
    own = table.loc["own"]
    assert own["age_mae"] == pytest.approx(error, rel=0.3), "of larger images"
    assert own["own"]
    assert np.isnan(own["age_mae_low"]), "of a handful of people"
    other = table.loc["other"]
    assert other["age_mae_low"] < other["age_mae"] < other["age_mae_high"]
    assert "were trained on by this checkpoint" in table.loc["fold1", "refused"]
    assert np.isnan(table.loc["fold1", "age_mae"])
    for warning in ("trained on faces of 64 px", "tested on faces of 72 px"):
        assert warning in table.loc["other", "warnings"]
    page = (out / "matrix.html").read_text()
    for said in ("refused x", "MAE in years with 95 % intervals by subject", "tiny on fold1: refused"):
        assert said in page
    assert (out / "matrix.svg").is_file()

    monkeypatch.setattr(module, "run_trainer_command", None)  # nothing is tested again
    capsys.readouterr()
    main([*command, "--data.image_size", "72"])
    assert capsys.readouterr().out.count("tested already") == 3
    pd.testing.assert_frame_equal(pd.read_csv(out / "matrix.csv").set_index("data"), table)

    calibrated = {"calibration": {"age_scale": 2.0}}
    monkeypatch.setattr(module, "read_checkpoint", lambda file: read_checkpoint(file) | calibrated)
    with pytest.raises(TypeError, match="not callable"):  # another calibration is another network
        main([*command, "--data.image_size", "72"])


def test_arguments_of_a_matrix_are_checked_first(trained, tmp_path, fails):
    assert "give both" in fails("evaluate", "--matrix", trained)
    assert "--ckpt_path does not go" in fails(
        "evaluate", "--matrix", trained, "--on", "morph.yaml", "--ckpt_path", trained
    )
    assert "none.yaml" in fails("evaluate", "--matrix", trained, "--on", "none.yaml")
    for option in (("--legal_ages", 18), ("--paper", "true"), ("--cell_ages", 20, 30)):
        message = fails("evaluate", "--matrix", trained, "--on", "morph.yaml", *option)
        assert f"{option[0]} does not go with --matrix" in message
    (tmp_path / "mine.txt").touch()
    message = fails("evaluate", "--matrix", trained, "--on", "morph.yaml", "--out", tmp_path)
    assert "holds other files" in message


def test_texts_of_cells():
    ages = np.arange(20.0, 60.0)
    faces = pd.DataFrame({"id": [f"{age}" for age in ages], "label_age_low": ages, "label_age_high": ages})
    exact = faces.assign(age_mean=ages + 2, age_std=1.0)
    grouped = exact.assign(
        label_age_low=25, label_age_high=32, age_mean=28.0, group_0_24=0.0, group_25_32=1.0
    )
    cells = [
        Cell("a", "x", "x", "x, random, fold 0", exact, own=True),
        Cell("a", "y", "x", "y", grouped, warnings=("sizes differ",)),
        Cell("b", "x", "y", "x", refused="40 of 40 faces"),
        Cell("b", "y", "y", "y", exact[:5]),
    ]
    table = matrix_table(cells, draws=50)
    assert table["faces"].tolist()[:2] == [40, 40]
    assert text_table(table).to_numpy().tolist() == [
        ["a", "2.00 [2.00, 2.00] *", "groups: 100.0 % !"], ["b", "refused x", "2.00"],
    ]  # fmt: skip
