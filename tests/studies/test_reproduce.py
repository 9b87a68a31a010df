"""`mtmsa reproduce` with children that write run directories instead of training."""

import json
import shutil
import statistics
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from crossval_children import predictions_of, replace_children

from mtmsa_lightning import MORPH
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.studies import comparison as study
from mtmsa_lightning.studies.definition import read_study, shipped_studies

TABLES = "runs/studies/parts-tiny"
VARIANTS = {"plain": ["plain.yaml"], "late": ["late.yaml"], "all": []}


def write_study(folder, tiny_config):
    (folder / "plain.yaml").write_text("model: {msa: null}\n")
    (folder / "late.yaml").write_text("model: {last_stride: 1}\n")
    content = {
        "title": "Parts", "configs": [str(tiny_config)], "variants": VARIANTS, "baseline": "plain",
        "folds": [0, 1], "seeds": [0, 1],
    }  # fmt: skip
    file = folder / "parts.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def run_study(file, *args):
    """Reproduce a study in its folder and return its table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "compare", partial(study.compare, draws=500))  # for speed; tested elsewhere
        main(["reproduce", str(file), "--trainer.default_root_dir", "runs", *map(str, args)])
    return json.loads((file.parent / TABLES / "table.json").read_text())


@pytest.fixture
def study_file(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path, tiny_config)


@pytest.fixture
def reproduce(study_file, children):
    def run(*args):
        children.names.clear()
        return run_study(study_file, *args)

    run.folder = study_file.parent / TABLES
    return run


@pytest.fixture(scope="module")
def reproduced(tiny_config, morph_root, tmp_path_factory):
    """A study that was reproduced, with predictions of ``late`` 15 years off; what it ran and printed."""
    folder = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.chdir(folder)
        children = replace_children(morph_root, folder, patch)
        children.years["tiny/late"] = 15.0
        table = run_study(write_study(folder, tiny_config))
    return SimpleNamespace(folder=folder, children=children, table=table, printed=printed.getvalue())


@pytest.fixture
def first(reproduced, reproduce, children, tmp_path):
    """The table of ``reproduced``, whose runs are there for ``reproduce``."""
    shutil.copytree(reproduced.folder / "runs", tmp_path / "runs")
    children.started += reproduced.children.started
    return reproduced.table


def runs_of(experiment, folds=(0, 1), seeds=(0, 1)):
    return [f"tiny/{experiment}/fold{fold}-seed{seed}" for seed in seeds for fold in folds]


# ------------------------------------------------------------------------ the table


@pytest.mark.slow
def test_every_variant_is_run_and_stands_in_one_table(reproduced, morph_root):
    table, children = reproduced.table, reproduced.children
    assert children.names == [*runs_of("plain"), *runs_of("late"), *runs_of("unchanged")]
    configs = [[word for word in command if word.startswith("--config=")] for command in children.commands]
    assert configs[4][1:] == ["--config=late.yaml"]

    data = MORPH(root=str(morph_root), image_size=64, crop=1.0, val_fraction=0.2)
    data.setup()
    predicted = [predictions_of(data, fold, seed) for seed in (0, 1) for fold in (0, 1)]
    for variant, years in (("plain", 0), ("late", 15), ("all", 0)):
        errors = [(each["age_mean"] + years - each["label_age_low"]).abs().mean() for each in predicted]
        metric = table["variants"][variant]["metrics"]["age_mae"]
        assert metric["mean"] == pytest.approx(statistics.mean(errors))
        assert metric["sd"] == pytest.approx(statistics.stdev(errors))
        assert metric["n"] == 4

    assert table["variants"]["plain"]["against_baseline"] is None
    late, same = (table["variants"][name]["against_baseline"]["age_mae"] for name in ("late", "all"))
    means = {name: table["variants"][name]["metrics"]["age_mae"]["mean"] for name in VARIANTS}
    assert late["verdict"].startswith("worse, significant")
    assert late["p_holm"] == pytest.approx(2 * late["p"])
    assert late["low"] < late["difference"] < late["high"]
    assert (same["difference"], same["verdict"]) == (0, "not significant at 5 %")
    quoted = table["quoted_with"]
    assert [quoted[key] for key in ("dataset", "protocol", "split_seed")] == [
        "synthetic-morph",
        "subject_exclusive",
        0,
    ]
    assert quoted["label_rule"] == data.table.label_rule
    assert quoted["test_fingerprints"]["1"] == data.split_of(1).fingerprints["test"]
    assert table["settings"]["trainer"]["max_epochs"] == 2
    assert str(morph_root) not in json.dumps(table)

    folder = reproduced.folder / TABLES
    text = (folder / "table.md").read_text()
    assert text in reproduced.printed
    (line,) = [line for line in text.splitlines() if line.startswith("| late ")]
    assert f"| {means['late']:.2f} ± " in line
    assert line.split("|")[3].rstrip().endswith("*")
    rows = pd.read_csv(folder / "table.csv").set_index(["variant", "metric"])
    assert rows.loc[("late", "age_mae"), "mean"] == pytest.approx(means["late"])
    assert rows.loc[("late", "age_mae"), "p_holm"] == pytest.approx(late["p_holm"])
    assert rows["protocol"].eq("subject_exclusive").all()


@pytest.mark.slow
def test_what_is_complete_is_skipped_and_shared_with_other_studies(first, reproduce, children, study_file):
    content = yaml.safe_load(study_file.read_text()) | {"variants": {"x": [], "plain": ["plain.yaml"]}}
    study_file.with_name("other.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    children.names.clear()
    main(["reproduce", "other.yaml", "--trainer.default_root_dir", "runs", "--seeds", "0", "1", "2"])
    assert children.names == [*runs_of("unchanged", seeds=[2]), *runs_of("plain", seeds=[2])]
    assert reproduce() == first, "the third seed is not this study's"
    assert children.names == []


def test_chosen_variants_folds_and_seeds(reproduce, children):
    table = reproduce("--variants", "all", "--folds", "1-2", "--seeds", 5)
    assert children.names == [*runs_of("plain", (1, 2), [5]), *runs_of("unchanged", (1, 2), [5])]
    assert list(table["variants"]) == ["plain", "all"]


@pytest.mark.slow
def test_a_failure_is_told_and_the_other_variants_are_compared(reproduce, children, capsys):
    children.failing |= {"tiny/late/fold1-seed0", *runs_of("unchanged", seeds=[0])}
    with pytest.raises(SystemExit) as stopped:
        reproduce("--seeds", 0)
    assert stopped.value.code == 2
    assert "3 runs are missing" in capsys.readouterr().err
    table = json.loads((reproduce.folder / "table.json").read_text())
    assert table["not_run"] == ["all"]
    assert table["variants"]["late"]["not_compared"] == "runs are missing"
    assert "late is incomplete: 1 run is missing" in (reproduce.folder / "table.md").read_text()
    children.failing.clear()
    table = reproduce("--seeds", 0)
    assert children.names == ["tiny/late/fold1-seed0", *runs_of("unchanged", seeds=[0])]
    assert table["variants"]["late"]["against_baseline"]["age_mae"]["difference"] == 0


# ------------------------------------------------------------------------ recorded


@pytest.mark.slow
def test_differences_from_a_recorded_table_are_taken_cell_by_cell(first, reproduce, children, study_file):
    assert first["recorded"] is None
    recorded = study_file.parent / "recorded" / "parts-tiny.json"
    recorded.parent.mkdir()
    recorded.write_text((reproduce.folder / "table.json").read_text())
    same = reproduce()["recorded"]
    assert same["conditions"] == same["only_here"] == same["only_recorded"] == []
    cells = [cell for of in same["cells"].values() for cell in of.values()]
    assert {cell["difference"] for cell in cells if cell["recorded"] is not None} == {0}

    children.years = {"tiny/late": 0.0}
    other = reproduce("--trainer.max_epochs", 3, "--variants", "late")
    cell = other["recorded"]["cells"]["late"]["age_mae"]
    then, now = (each["variants"]["late"]["metrics"]["age_mae"]["mean"] for each in (first, other))
    assert (cell["recorded"], cell["value"], cell["difference"]) == (then, now, pytest.approx(now - then))
    assert other["recorded"]["conditions"] == ["settings.trainer.max_epochs was 2, is 3"]
    assert "all/age_mae" in other["recorded"]["only_recorded"]
    text = (reproduce.folder / "table.md").read_text()
    assert "- settings.trainer.max_epochs was 2, is 3" in text
    assert f"| {now - then:+.2f} |" in text.partition("## Difference")[2]
    rows = pd.read_csv(reproduce.folder / "table.csv").set_index(["variant", "metric"])
    assert rows.loc[("late", "age_mae"), "from_recorded"] == pytest.approx(now - then)


# ------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"baseline": "nothing"}, "baseline nothing is not one of plain, late, all"),
        ({"basline": "plain"}, "unknown key 'basline'"),
        ({"seeds": None}, "seeds: give a list of whole numbers, not None"),
        ({"folds": [0, "one"]}, "folds: give a list of whole numbers"),
        ({"variants": []}, "variants: give names with lists of configs"),
        ({"variants": {"plain": "plain.yaml"}}, "variants.plain: give a list of configs, not 'plain.yaml'"),
        ({"variants": {"plain": ["nowhere.yaml"]}}, "nowhere.yaml: no such file"),
        ({"variants": {"plain": [], "other": []}}, "plain and other would share the runs tiny/unchanged"),
        ({"folds": [7]}, "variant plain: protocol 'subject_exclusive' has no fold 7"),
    ],
)
def test_a_mistake_in_a_study_is_told_before_anything_trains(fails, study_file, children, change, said):
    study_file.write_text(yaml.safe_dump(yaml.safe_load(study_file.read_text()) | change, sort_keys=False))
    assert said in fails("reproduce", study_file, "--trainer.default_root_dir", "runs")
    assert children.names == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["componets"], "componets: no such study; did you mean components?"),
        (["parts.yaml", "--name", "mine"], "--name: the study names its runs"),
        (["parts.yaml", "--data.fold", "1"], "--data.fold: give --folds"),
        (["parts.yaml", "--variants", "some"], "no variant 'some', only plain, late, all"),
        (["parts.yaml", "--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["parts.yaml", "--parallel", "0"], "--parallel: must be a whole number from 1"),
        (["parts.yaml", "--data.fodl", "1"], "variant plain: "),
    ],
)
def test_a_mistaken_command_is_told_before_anything_trains(fails, study_file, children, args, said):
    assert said in fails("reproduce", *args, "--trainer.default_root_dir", "runs")
    assert children.names == []


def test_a_config_that_is_wrong_in_the_last_variant_is_told_before_the_first_one_trains(
    fails, study_file, children, tmp_path
):
    (tmp_path / "late.yaml").write_text("model: {last_strid: 1}\n")
    assert "variant late: " in fails("reproduce", study_file, "--trainer.default_root_dir", "runs")
    assert children.names == []


def test_a_damaged_recorded_table_is_told_before_anything_trains(fails, study_file, children):
    (study_file.parent / "recorded").mkdir()
    (study_file.parent / "recorded" / "parts-tiny.json").write_text("{}")
    assert "not a table of `mtmsa reproduce`" in fails("reproduce", study_file)
    assert children.names == []


# ------------------------------------------------------------------------ shipped


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_can_be_read_and_has_its_baseline(name):
    study = read_study(name)
    assert study.name == name
    assert len(study.variants) >= 2
    assert study.baseline in study.variants


def test_a_study_runs_on_another_base_and_names_its_runs_after_it():
    assert read_study("components").experiment("tasks") == "morph/no_msa+l2"
    assert read_study("components", ["utkface.yaml"]).experiment("all") == "utkface/unchanged"
    assert read_study("morph_random").experiment("plain") == "morph_random/no_msa+no_tasks+l2"
