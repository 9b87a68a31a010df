"""The commands on a mixture of tables."""

import json
import shutil

import pytest
import yaml
from mixed_sources import SIZES, write_source

from mtmsa_lightning.cli.main import main


@pytest.fixture
def folder(tmp_path):
    for name in SIZES:
        write_source(tmp_path, name)
    sources = [
        {
            "class_path": "FaceCSV",
            "init_args": {"root": str(tmp_path / name), "dataset_name": name, "protocol": "random"},
        }
        for name in SIZES
    ]
    data = {"sources": sources, "image_size": 64, "batch_size": 4, "num_workers": 0}
    settings = {
        "data": {"class_path": "Mixture", "init_args": data},
        "model": {"weights": None, "msa": None},
        "trainer": {"max_epochs": 1},
    }
    (tmp_path / "joint.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def config(folder):
    return ["--config", str(folder / "joint.yaml")]


def status_of(*args):
    try:
        main([*map(str, args)])
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_check_describes_every_source_and_the_mixture(folder, capsys):
    assert status_of("check", *config(folder), "--timing=false", "--data.weights", "{races: 2}") == 0
    printed = capsys.readouterr().out
    for name, size in SIZES.items():
        assert f"{name} at {folder / name}: {size} faces" in printed
    assert "mixture of exact, groups, races: 71 faces" in printed
    assert "no image is in several sources" in printed
    assert "races: Black, East Asian, white" in printed


def test_audit_and_fit_find_copies_across_sources(folder, capsys, fails):
    """The last faces of one source are copies of the first ones of another: some are tested and trained."""
    for number in range(15):
        shutil.copy(folder / f"exact/{number:03d}.png", folder / f"races/{number:03d}.png")
    assert status_of("audit", *config(folder), "--out", folder / "audit", "--faces=false") == 1
    printed = capsys.readouterr().out
    found = json.loads((folder / "audit" / "audit.json").read_text())
    leak = next(each for each in found["findings"] if each["kind"] == "copy-leak")
    pairs = [{name.partition("/")[0] for name in text.split(" = ")} for text in leak["examples"]]
    assert pairs == [{"exact", "races"}] * len(pairs)
    for name in SIZES:
        own = json.loads((folder / "audit" / name / "audit.json").read_text())
        assert not any(each["kind"] == "copy-leak" for each in own["findings"])
        assert str(folder / "audit" / name / "audit.html") in printed
    message = fails("fit", *config(folder), "--run_dir", folder / "run", "--wandb", "disabled")
    assert "have the same bytes as training or validation images of another source" in message


def test_prepare_and_crossval_name_what_to_do(folder, fails):
    message = fails("prepare", "--data", "mixture", "--root", folder, "--out", folder / "out")
    assert "prepare each source by --data NAME --root DIR" in message
    file = folder / "joint.yaml"
    file.write_text(file.read_text().replace("protocol: random", "protocol: whole", 1))
    message = fails("crossval", *config(folder), "--trainer.default_root_dir", folder / "runs")
    assert "exact: protocol whole has one fold" in message
    assert "give it the protocol train_all" in message


def test_a_source_of_an_unknown_class_is_named(folder, fails):
    file = folder / "joint.yaml"
    file.write_text(file.read_text().replace("class_path: FaceCSV", "class_path: FaceCVS", 1))
    message = fails("fit", *config(folder), "--run_dir", folder / "run", "--wandb", "disabled")
    assert "data.sources FaceCVS: there is no class of that name; did you mean FaceCSV" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "Mixture"], "sources"),
        (["--data.weights", "{exat: 2}"], "there is no source 'exat'"),
        (["--data.caps", "{exact: 0}"], "data.caps: 0 of exact must be at least 1"),
    ],
)
def test_wrong_settings_are_one_message(folder, fails, arguments, message):
    given = arguments if "--data" in arguments else [*config(folder), *arguments]
    assert message in fails("fit", *given, "--run_dir", folder / "run", "--wandb", "disabled")
