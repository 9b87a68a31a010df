"""Which classes files may name, and what another class starts from, through the parser of the commands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mtmsa_lightning import MTMSA, AgeEstimator
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.settings.class_paths import (
    allow_option,
    allowing,
    import_from_here,
    names_in,
    split_names,
)
from mtmsa_lightning.settings.configs import classes_first
from mtmsa_lightning.training.checkpoint_settings import config_of_run
from mtmsa_lightning.training.lightning_cli import UnstartedCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command

# ------------------------------------------------------------------------ another class

BASE = """
data: {class_path: mtmsa_lightning.Synthetic, init_args: {root: x, fold: 1, image_size: 96, batch_size: 7}}
model:
  age: {class_path: mtmsa_lightning.GaussianAgeHead, init_args: {form: exact, dropout: 0.3}}
  gender: {class_path: mtmsa_lightning.ClassHead, init_args: {dropout: 0.4}}
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 3.0e-4, weight_decay: 0.05, fused: true}}
  scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 3, gamma: 0.5}}
trainer:
  callbacks: [{class_path: EarlyStopping, init_args: {monitor: a, mode: max, verbose: true}}]
  logger: {class_path: CSVLogger, init_args: {save_dir: x, name: mine, version: v9}}
"""
COMPLETE = {"data": {"class_path": "mtmsa_lightning.Synthetic"}}

# key, as an overlay, as arguments
ANOTHER = {
    "optimiser": ("model.optimizer", {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}),
    "optimiser without arguments": ("model.optimizer", {"class_path": "torch.optim.Adam"}),
    "scheduler": (
        "model.scheduler",
        {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.9}},
    ),
    "age head": ("model.age", {"class_path": "mtmsa_lightning.CoralAgeHead"}),
    "dataset": ("data", {"class_path": "mtmsa_lightning.UTKFace", "init_args": {"root": "y"}}),
    "logger": ("trainer.logger", {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "y"}}),
}  # fmt: skip
FORMS = [("name", 1), ("class_path", -1), ("name", -1), ("class_path", 1)]
ARGUMENTS = [(kind, *FORMS[place % 4]) for place, kind in enumerate(ANOTHER)]
"""Every kind with one form and order of its arguments, every form in every order."""


def parsed(tmp_path: Path, *args: str, base: str = BASE) -> dict[str, Any]:
    """Return the settings of a command line on top of a config."""
    (tmp_path / "base.yaml").write_text(base)
    cli = run_trainer_command("fit", [f"--config={tmp_path / 'base.yaml'}", *args], UnstartedCLI)
    assert isinstance(cli, UnstartedCLI)
    return cli.plain_settings


def overlay(tmp_path: Path, key: str, value: Any) -> str:
    for part in reversed(key.split(".")):
        value = {part: value}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(value))
    return f"--config={tmp_path / 'overlay.yaml'}"


def at(settings: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        settings = settings[part]
    return settings


def as_arguments(key: str, spec: dict[str, Any], form: str) -> list[str]:
    name = spec["class_path"].rpartition(".")[2]
    chosen = {"name": f"--{key}={name}", "class_path": f"--{key}.class_path={spec['class_path']}"}[form]
    return [chosen, *(f"--{key}.{arg}={value}" for arg, value in spec.get("init_args", {}).items())]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form", "order"), ARGUMENTS)
def test_another_class_starts_from_its_own_defaults(kind, form, order, tmp_path):
    """As an overlay, by name or path, with its arguments before it: what it is where nothing was set."""
    key, spec = ANOTHER[kind]
    bare = parsed(tmp_path, overlay(tmp_path, key, spec), base=yaml.safe_dump(COMPLETE))
    expected = at(bare, key)
    assert at(parsed(tmp_path, overlay(tmp_path, key, spec)), key) == expected
    assert at(parsed(tmp_path, *as_arguments(key, spec, form)[::order]), key) == expected


@pytest.mark.slow
def test_a_callback_does_not_inherit_from_the_one_in_its_place(tmp_path):
    spec = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "b"}}
    (built,) = parsed(tmp_path, overlay(tmp_path, "trainer.callbacks", [spec]))["trainer"]["callbacks"]
    assert (built["init_args"]["mode"], built["init_args"]["verbose"]) == ("min", False)


@pytest.mark.slow
def test_the_same_class_keeps_what_was_set(tmp_path):
    """However it is spelt, and where no class is named at all."""
    for spec in (
        {"class_path": "torch.optim.adamw.AdamW", "init_args": {"lr": 0.1}},
        {"class_path": "AdamW", "init_args": {"lr": 0.1}},
        {"init_args": {"lr": 0.1}},
    ):
        optimizer = parsed(tmp_path, overlay(tmp_path, "model.optimizer", spec))["model"]["optimizer"]
        kept = {key: optimizer["init_args"][key] for key in ("lr", "weight_decay", "fused")}
        assert kept == {"lr": 0.1, "weight_decay": 0.05, "fused": True}
    settings = parsed(tmp_path, "--model.optimizer.lr=0.2", "--data.fold=2", "--model.gender=ClassHead")
    assert settings["model"]["optimizer"]["init_args"]["weight_decay"] == 0.05
    assert settings["data"]["init_args"]["batch_size"] == 7
    assert settings["model"]["gender"]["init_args"]["dropout"] == 0.4


@pytest.mark.slow
def test_no_class_in_any_config_leaves_the_default_ones_arguments_behind(tmp_path):
    settings = parsed(tmp_path, "--model.optimizer=Adam", base=yaml.safe_dump(COMPLETE))
    assert settings["model"]["optimizer"]["init_args"]["weight_decay"] == 0.0  # AdamW's default is 0.01


def test_options_keep_their_order_but_for_classes():
    same = ["--a.x=1", "--b", "2", "--model.msa.rates=[1]", "--model.msa=null", "--c.class_path=A", "--c=B"]
    assert classes_first(same) == same
    assert classes_first(["--c.x", "1", "--c.class_path", "A", "--c.y=2"]) == [
        "--c.class_path", "A", "--c.x", "1", "--c.y=2",
    ]  # fmt: skip


# ------------------------------------------------------------------------ files of others

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
class Optimizer: ...
class Head: ...
"""
EVERYWHERE = (
    "model.optimizer", "model.scheduler", "model.age", "model.gender", "data", "trainer.callbacks",
    "trainer.strategy", "trainer.plugins", "trainer.profiler", "trainer.accelerator",
)  # fmt: skip
NAMED = {
    "a module of the working directory": ("evilmodule.Optimizer", "--allow_classes evilmodule"),
    "a shell": ("os.system", "os.system"),
    "a process": ("subprocess.Popen", "subprocess.Popen"),
    "evaluation": ("builtins.eval", "builtins.eval"),
    "through this package": ("mtmsa_lightning.runs.directory.os.system", ""),
    "a writer of this package": ("mtmsa_lightning.training.callbacks.run_record.RunRecord", ""),
}


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that someone gave away, in a working directory with a module that must not be imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evilmodule.py").write_text(EVIL)
    folder = tmp_path / "given"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "run.json", "checkpoints/best.ckpt"):
        shutil.copy(trained / name, folder / name)
    yield folder
    assert not (tmp_path / "ran").exists()
    assert "evilmodule" not in sys.modules
    assert str(tmp_path) not in sys.path


def plant(run: Path, key: str, value: Any) -> None:
    """Write a value into the run's config."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    *sections, last = key.split(".")
    inner = config
    for section in sections:
        inner = inner[section]
    inner[last] = [value] if last in ("callbacks", "plugins") else value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.slow
@pytest.mark.parametrize("key", EVERYWHERE)
def test_a_config_that_came_with_a_checkpoint_imports_nothing(key, run, fails):
    plant(run, key, {"class_path": "evilmodule.Optimizer"})
    message = fails("test", "--ckpt_path", run)
    assert "evilmodule.Optimizer is not a class of this package" in message
    assert "--allow_classes evilmodule" in message
    assert str(run / "config.yaml") in message
    plant(run, key, "evilmodule.Optimizer")
    fails("test", "--ckpt_path", run)


@pytest.mark.slow
@pytest.mark.parametrize("what", NAMED)
def test_what_could_run_anything_is_refused(what, run, fails):
    name, said = NAMED[what]
    for key in ("model.optimizer", "trainer.callbacks"):
        plant(run, key, {"class_path": name, "init_args": {}})
        message = fails("test", "--ckpt_path", run)
        assert "is not a class of this package" in message
        assert said in message
        plant(run, key, None)


@pytest.mark.slow
def test_another_file_that_a_config_points_to_is_no_way_round(run, tmp_path, fails):
    (tmp_path / "more.yaml").write_text("class_path: evilmodule.Optimizer\n")
    for key in ("model.optimizer", "data", "trainer.callbacks"):
        plant(run, key, str(tmp_path / "more.yaml"))
        fails("test", "--ckpt_path", run)
        plant(run, key, None)


@pytest.mark.slow
def test_the_hint_on_another_fault_imports_nothing(run, fails):
    plant(run, "trainer.callbacks", {"class_path": "evilmodule.Optimizer"})
    plant(run, "model.lr", 1)
    fails("test", "--ckpt_path", run)
    fails("test", "--ckpt_path", run, "--trainer.max_epoch=1")


@pytest.mark.slow
def test_classes_within_the_arguments_of_others_are_refused(run, fails):
    nested = {
        "class_path": "lightning.pytorch.strategies.DDPStrategy",
        "init_args": {"cluster_environment": {"class_path": "evilmodule.Optimizer"}},
    }
    plant(run, "trainer.strategy", nested)
    assert "evilmodule.Optimizer is not a class of this package" in fails("test", "--ckpt_path", run)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["test", "validate", "evaluate", "calibrate", "fit"])
def test_all_commands_that_read_settings_refuse(verb, run, tiny_config, fails):
    """``calibrate`` reads the data section alone; ``fit`` takes the settings of a checkpoint to continue."""
    if verb == "calibrate":
        plant(run, "data", {"class_path": "evilmodule.Optimizer"})
    else:
        file = run / "checkpoints" / "best.ckpt"
        checkpoint = torch.load(file, weights_only=True) | {"optimizer_states": []}
        checkpoint["hyper_parameters"]["optimizer"] = {"class_path": "evilmodule.Optimizer", "init_args": {}}
        torch.save(checkpoint, file)
    config = ["--config", tiny_config] if verb == "fit" else []
    assert "evilmodule.Optimizer is not a class of this package" in fails(verb, "--ckpt_path", run, *config)


@pytest.mark.slow
def test_a_head_of_a_checkpoint_is_refused_by_all_that_load_it(run, tmp_path, fails):
    file = run / "checkpoints" / "best.ckpt"
    for name in ("evilmodule.Head", "os.system", "torch.nn.Linear", "mtmsa_lightning.runs.directory.Path"):
        checkpoint = torch.load(file, weights_only=True)
        checkpoint["hyper_parameters"]["age"] = {"class_path": name, "init_args": {}}
        torch.save(checkpoint, file)
        with pytest.raises(CheckpointError, match=rf"{name}( is no|.*cannot be imported)"):
            MTMSA.load(str(run))
    with pytest.raises(CheckpointError, match="is not a subclass of AgeHead or ClassHead"):
        AgeEstimator.from_pretrained(run, allow_classes=["torch.nn"])
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"")
    checkpoint["hyper_parameters"]["age"] = {"class_path": "evilmodule.Head", "init_args": {}}
    torch.save(checkpoint, file)
    for verb in (
        ["predict", photo, "--out", "ages.csv"],
        ["export", "--format", "safetensors"],
        ["calibrate"],
        ["test"],
    ):
        message = fails(*verb, "--ckpt_path", run)
        assert "evilmodule.Head is not a class of this package" in message
        assert "--allow_classes evilmodule" in message


@pytest.mark.slow
def test_a_run_does_not_say_where_the_next_one_writes(run, tmp_path, fails):
    plant(run, "run_dir", str(tmp_path / "elsewhere"))
    assert "run_dir is given on a command line only" in fails("test", "--ckpt_path", run)
    plant(run, "run_dir", None)
    plant(run, "allow_classes", "evilmodule")
    plant(run, "model.optimizer", {"class_path": "evilmodule.Optimizer"})
    fails("test", "--ckpt_path", run)


def parsed_of_run(run: Path, *args: str) -> dict[str, Any]:
    """Return the settings by which a run that someone gave away is trained on."""
    file = run / "checkpoints" / "best.ckpt"
    torch.save(torch.load(file, weights_only=True) | {"optimizer_states": []}, file)
    cli = run_trainer_command("fit", [f"--ckpt_path={file}", *args], UnstartedCLI)
    return cli.plain_settings


def test_a_run_decides_neither_what_is_uploaded_nor_where_to_write(run, caplog):
    caplog.set_level("INFO")
    csv = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "victim", "name": ""},
    }
    elsewhere = {
        "wandb": "offline",
        "wandb_faces": True,
        "trainer.logger": csv,
        "trainer.default_root_dir": "x",
    }
    for key, value in elsewhere.items():
        plant(run, key, value)
    settings = parsed_of_run(run)
    for key, value in {"wandb": None, "wandb_faces": False, "trainer.logger": None}.items():
        assert at(settings, key) == value
    assert settings["trainer"]["default_root_dir"] != "x"
    said = (
        "without its wandb, wandb_faces, trainer.logger, trainer.default_root_dir; to continue the same run"
    )
    (line,) = [line for line in caplog.messages if said in line]
    command = f"mtmsa fit --config={run}/config.yaml --run_dir {run}"
    assert line.endswith(f"the same run: {command}"), "which is the user's own word"
    own = parsed_of_run(run, "--wandb=offline", "--wandb_faces=true")
    assert own["wandb_faces"]
    plant(run, "wandb", "disabled")
    assert parsed_of_run(run)["wandb"] == "disabled", "a run that sends nothing goes on so"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("config", "/etc/passwd", "config is given on a command line only"),
        ("trainer", "/etc/passwd", "trainer must hold"),
        ("data", ["/etc/passwd"], "data must hold"),
        ("logger+", "CSVLogger", "there is no setting 'logger+'"),
        ("trainer.logger+", "CSVLogger", "there is no setting 'logger+'"),
        ("name", "../../elsewhere", "leads out of the folder of runs"),
        ("name", "/elsewhere", "leads out of the folder of runs"),
    ],
)
def test_a_run_names_no_files(key, value, said, run):
    plant(run, key, value)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        config_of_run([], str(run))


def test_dotted_settings_and_aliases_in_the_config_of_a_run_are_refused_at_once(run):
    (run / "config.yaml").write_text("trainer.logger: CSVLogger")
    with pytest.raises(CheckpointError, match=r"there is no setting 'trainer\.logger'"):
        config_of_run([], str(run))
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (run / "config.yaml").write_text("\n".join(["a0: &a0 [x]", *levels]))
    with pytest.raises(ConfigError, match="YAML aliases"):
        config_of_run([], str(run))
    assert read_config(run) == {}


@pytest.mark.slow
def test_a_run_with_lightnings_callbacks_needs_no_further_word(run):
    """What may be named: the classes of runs that a user trains every day."""
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "val/loss"},
    }
    plant(run, "trainer.callbacks", stopping)
    plant(run, "model.optimizer", {"class_path": "torch.optim.sgd.SGD", "init_args": {"lr": 0.1}})
    main(["test", "--ckpt_path", str(run), "--trainer.limit_test_batches=1"])


# ------------------------------------------------------------------------ the user's word


def test_names_are_read_and_checked():
    assert split_names("a, b.c") == ("a", "b.c")
    assert split_names(None) == ()
    assert names_in({"a": ["x.Y", {"b": "z"}], "c": "no path/x.y"}) == {"x.Y"}
    for wrong in ("os", "builtins", "a-b", "subprocess.Popen"):
        with pytest.raises(ConfigError, match="modules or classes of your own"), allowing([wrong]):
            pass


def test_the_working_directory_is_searched_for_named_modules_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "heads.py").write_text("")
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    for name in ("other.Head", "faces.csv", "lab.nothing.Head"):
        import_from_here([name])
        assert str(tmp_path) not in sys.path
    import_from_here(["lab.heads.MLP"])
    assert sys.path[-1] == str(tmp_path)
    import_from_here(["lab.heads.MLP"])
    assert sys.path.count(str(tmp_path)) == 1


AS_PYTHON_M = """
import os, runpy, sys
from importlib.util import find_spec
sys.path[0], sys.argv[1:] = os.getcwd(), []
runpy.run_module("mtmsa_lightning", run_name="__main__", alter_sys=True)
for name in ("yaml", "torch", "tensorboard", "gradio"):
    print(find_spec(name).origin, file=sys.stderr)
"""


def test_a_module_of_the_working_directory_shadows_no_library(tmp_path):
    """``python -m`` puts it first on the path."""
    for name in ("yaml", "torch", "tensorboard", "gradio"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working directory')")
    command = [sys.executable, "-c", AS_PYTHON_M]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mtmsa fit" in done.stdout
    origins = done.stderr.splitlines()
    assert len(origins) == 4
    assert not [origin for origin in origins if Path(origin).is_relative_to(tmp_path)]


def test_records_are_the_same_whatever_is_allowed(trained):
    before = read_checkpoint(trained)["hyper_parameters"]
    assert dict(MTMSA.load(str(trained), allow_classes=["mylab"]).hparams)["age"] == before["age"]


def test_a_command_on_a_run_allows_the_classes_that_its_files_may_not_name():
    ours = {"class_path": "mtmsa_lightning.MORPH"}
    optimiser = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}
    assert allow_option({"data": ours, "model": {"optimizer": optimiser}, "name": "mylab.x"}) == ""
    settings = {"data": {"class_path": "mylab.MyFaces"}, "model": {"age": {"class_path": "lab.heads.Head"}}}
    assert allow_option(settings) == " --allow_classes lab.heads,mylab"
    with allowing(["mylab"]):
        assert allow_option(settings) == " --allow_classes mylab,lab.heads"
        assert allow_option({"data": ours}) == " --allow_classes mylab"
