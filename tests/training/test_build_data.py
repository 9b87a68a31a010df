import argparse
import json
import shlex
import sys
import traceback

import pytest

from mtmsa_lightning import UTKFace
from mtmsa_lightning.cli.commands import audit, check
from mtmsa_lightning.cli.data_arguments import add_data_arguments, data_arguments, expand
from mtmsa_lightning.data.prepared.format import RECORD
from mtmsa_lightning.data.synthetic import write_adience, write_morph, write_utkface
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.training.build_data import build_data, recognise
from mtmsa_lightning.training.lightning_cli import UnstartedCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command

WRITERS = {"morph": write_morph, "adience": write_adience, "utkface": write_utkface}


def arguments(*args):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_data_arguments(parser)
    options, others = parser.parse_known_args([str(arg) for arg in args])
    return data_arguments(options, others, recognised=True, required=True)


def prepared(root, dataset):
    record = {"format_version": 1, "dataset": dataset, "label_rule": "", "race_classes": [], "table": "t"}
    (root / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize("name", WRITERS)
def test_a_release_is_recognised_by_its_layout(tmp_path, name):
    WRITERS[name](tmp_path / "release", n_faces=10, size=64)
    assert recognise(tmp_path / "release") == name


def test_a_table_and_a_prepared_set_are_recognised(tmp_path):
    (tmp_path / "25_0_2_20170116174525125.jpg.chip.jpg").touch()
    assert recognise(tmp_path) == "utkface"
    assert recognise(tmp_path, table="mine.csv") == "csv"
    (tmp_path / "faces.csv").touch()
    assert recognise(tmp_path) == "csv"
    prepared(tmp_path, "morph")
    assert recognise(tmp_path) == "morph"
    prepared(tmp_path, "mine")
    assert arguments("--root", tmp_path) == [
        "--data=FaceCSV", "--data.dataset_name=mine", f"--data.root={tmp_path}",
    ]  # fmt: skip


def test_an_unknown_layout_shows_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"(?s)no dataset is recognised.*morph_2008.*fold_0_data.*faces\.csv"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        recognise(tmp_path / "nowhere")


def test_short_names_become_settings_of_data_and_trainer(tmp_path):
    given = ["--data", "utkface", "--root", str(tmp_path), "--num_workers", "2"]
    assert arguments(*given, "--data.crop", "0.9") == [
        "--data=UTKFace", f"--data.root={tmp_path}", "--data.num_workers=2", "--data.crop", "0.9",
    ]  # fmt: skip
    columns = arguments("--data", "csv", "--root", tmp_path, "--columns", "age=years", "path=file")
    assert columns[-1] == '--data.columns={"age": "years", "path": "file"}'
    devices = ["--accelerator", "gpu", "--devices=-1", "--precision", "bf16-mixed"]
    assert expand(["--data", "MORPH", *devices, "-c", "x.yaml"]) == [
        "--config=x.yaml", "--data=MORPH", "--trainer.accelerator=gpu", "--trainer.devices=-1",
        "--trainer.precision=bf16-mixed",
    ]  # fmt: skip


def test_a_folder_alone_is_recognised_unless_a_config_or_checkpoint_names_the_data(tmp_path):
    write_utkface(tmp_path, n_faces=10, size=64)
    root = f"--data.root={tmp_path}"
    assert expand(["--root", str(tmp_path)]) == ["--data=UTKFace", root]
    assert expand(["--root", str(tmp_path), "--config", "x.yaml"]) == ["--config=x.yaml", root]
    assert expand(["--root", str(tmp_path), "--ckpt_path", "run"]) == [root, "--ckpt_path", "run"]


def test_settings_with_a_dot_keep_their_values_and_their_order():
    dotted = ["--data.crop", "0.9", "--model.msa=null", "--model.weights", "null", "--trainer.fast_dev_run"]
    assert expand([*dotted[:3], "--data", "morph", *dotted[3:], "--data.fold", "1"]) == [
        "--data=MORPH", *dotted, "--data.fold", "1",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"no option --daat: did you mean --data\?"):
        expand(["--daat", "morph"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--root DIR"),
        (["--data", "csv", "--columns", "age"], "OURS=THEIRS, e.g. age=years"),
        (["morph", "--root", "x"], "unexpected argument 'morph': write --data morph"),
        (["--root", "x", "."], r"unexpected argument '\.': write --root \. for a dataset, --ckpt_path"),
        (["--root", "x", "x"], "unexpected argument 'x': settings are given as --NAME VALUE"),
        (["--data.fold", "1", "morph", "--root", "x"], "unexpected argument 'morph': write --data morph"),
        (["--data.fold=1", "x"], "unexpected argument 'x': settings are given as --NAME VALUE"),
    ],
)
def test_mistakes_are_told(args, said):
    with pytest.raises(ConfigError, match=said):
        arguments(*args)


def test_data_is_built_from_the_section_of_a_config_and_the_command_line_wins(tmp_path):
    config = tmp_path / "mine.yaml"
    section = "{class_path: mtmsa_lightning.MORPH, init_args: {fold: 1, seed: 5}}"
    config.write_text(f"name: x\nmodel: {{unknown: 1}}\ndata: {section}\n")
    data = build_data(arguments("--config", config, "--data.fold", "3"))
    assert (type(data).__name__, data.fold, data.seed) == ("MORPH", 3, 5)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data.label_rule", "extended"], "label_rule"),
        (["--data.protocol", "nonsense"], "protocol 'nonsense' is not supported by morph"),
        (["--data.clean", "[drop-duplicate]"], "did you mean 'drop-duplicates'"),
        (["--data.fold", "x"], "fold"),
        (["--data.fould=1"], "fould"),
    ],
)
def test_a_setting_that_does_not_fit_is_told(args, said):
    with pytest.raises(ConfigError, match=said):
        build_data(arguments("--data", "morph", *args))


def test_another_class_starts_from_its_own_defaults(tmp_path):
    settings = "{image_size: 96, val_fraction: 0.33, seed: 7}"
    (tmp_path / "one.yaml").write_text(f"data: {{class_path: MORPH, init_args: {settings}}}\n")
    (tmp_path / "two.yaml").write_text("data: {class_path: UTKFace}\n")
    both = [f"--config={tmp_path / name}" for name in ("one.yaml", "two.yaml")]
    fresh = UTKFace()
    for data in (build_data(both), build_data([both[0], "--data=UTKFace"])):
        assert type(data) is UTKFace
        for name in ("image_size", "val_fraction", "seed"):
            assert getattr(data, name) == getattr(fresh, name)
    late = build_data([both[0], "--data.seed=3", "--data=UTKFace"])
    assert (late.seed, late.image_size) == (3, fresh.image_size)


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """A module of the user's own in the working directory."""
    (tmp_path / "ownfaces.py").write_text(
        "from mtmsa_lightning import UTKFace\n\n\nclass MyFaces(UTKFace):\n    pass\n\n\n"
        "class Broken(UTKFace):\n    def __init__(self, odd: int = 1) -> None:\n        len(odd)\n"
    )
    (tmp_path / "mine.yaml").write_text("data: {class_path: ownfaces.MyFaces}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(tmp_path))])
    yield
    sys.modules.pop("ownfaces", None)


@pytest.mark.parametrize(
    "given", [["--config", "mine.yaml"], ["--data", "ownfaces.MyFaces"], ["--data=ownfaces.MyFaces"]]
)
def test_a_dataset_of_the_users_own_is_found_in_the_working_directory(mylab, given):
    data = build_data(
        data_arguments(*audit.parser().parse_known_args([*given, "--data.fold", "2", "--out", "x"]))
    )
    assert (type(data).__name__, data.fold) == ("MyFaces", 2)
    line = [*given, "--data.fold", "2", "--allow_classes", "ownfaces"]
    command = check.command(check.fit_arguments(*check.parser().parse_known_args(line)))
    assert shlex.split(command)[:2] == ["mtmsa", "fit"]
    assert given[-1].removeprefix("--data=") in shlex.split(command)
    assert command.endswith("--allow_classes ownfaces")


def test_an_error_within_a_dataset_of_the_users_own_shows_where(mylab):
    """The parser repeats it in an error of its own, for ``audit`` as for ``fit``."""
    for build in (
        lambda: build_data(["--data=ownfaces.Broken"]),
        lambda: run_trainer_command("fit", ["--data=ownfaces.Broken", "--wandb=disabled"], UnstartedCLI),
    ):
        with pytest.raises((TypeError, ValueError), match=r"has no len\(\)") as raised:
            build()
        assert "ownfaces.py" in "".join(traceback.format_exception(raised.value))


def test_a_config_without_data_is_told(tmp_path):
    (tmp_path / "x.yaml").write_text("name: x\n")
    with pytest.raises(ConfigError, match="no section `data`"):
        build_data([f"--config={tmp_path / 'x.yaml'}"])
