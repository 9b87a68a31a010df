import runpy
from pathlib import Path

import pytest
import yaml

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.settings.configs import SHIPPED
from mtmsa_lightning.training.lightning_cli import TrainingCLI

EXPERIMENTS = SHIPPED[1]
FILES = sorted(str(file.relative_to(EXPERIMENTS)) for file in EXPERIMENTS.rglob("*.yaml"))
SETTINGS = {file: yaml.safe_load((EXPERIMENTS / file).read_text()) for file in FILES}
STUDIES, SWEEPS = ([file for file in FILES if file.startswith(folder)] for folder in ("studies/", "sweeps/"))
CONFIGS = [file for file in FILES if file not in {*STUDIES, *SWEEPS}]
COMPLETE = [config for config in CONFIGS if "/" not in config]
OVERRIDES = [config for config in CONFIGS if "/" in config]
"""Configs that change some settings of a complete one."""


def test_all_promised_configs_are_there():
    assert {"morph.yaml", "adience.yaml", "utkface.yaml", "csv.yaml", "demo.yaml"} <= set(COMPLETE)


def test_configs_of_releases_with_age_groups_choose_the_checkpoint_by_groups():
    for config in COMPLETE:
        monitor = SETTINGS[config]["checkpoint"]["monitor"]
        assert monitor == ("val/group_acc" if config in ("adience.yaml", "fairface.yaml") else "val/age_mae")


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build what a command line of `mtmsa fit` describes, without running it."""
    built: list[TrainingCLI] = []
    monkeypatch.setattr(TrainingCLI, "_run_subcommand", lambda cli, verb: built.append(cli))

    def build(*args: str) -> TrainingCLI:
        root = ["--trainer.default_root_dir", str(tmp_path), "--wandb", "disabled"]
        main(["fit", *args, "--trainer.accelerator", "cpu", *root])
        return built[-1]

    return build


@pytest.mark.parametrize("config", COMPLETE)
def test_every_config_builds_model_data_and_trainer(config, build):
    cli = build("--config", config)
    assert cli.model.image_size == cli.datamodule.image_size
    assert cli.model.race_classes == cli.datamodule.race_classes
    assert cli.model.age_groups == cli.datamodule.age_groups
    assert ("race" in cli.model.tasks) == bool(cli.datamodule.race_classes)
    monitor = SETTINGS[config]["checkpoint"]["monitor"]
    assert monitor.removeprefix("val/") in cli.model.metrics.val_metrics
    grouped = type(cli.datamodule).age_groups != ()  # faces of these releases have no exact age
    assert SETTINGS[config]["checkpoint"] == (
        {"monitor": "val/group_acc", "mode": "max"} if grouped else {"monitor": "val/age_mae", "mode": "min"}
    )


@pytest.mark.parametrize("config", OVERRIDES)
def test_every_override_builds_on_a_complete_config_and_sets_what_it_says(config, build):
    cli = build("--config", "morph.yaml", "--config", config)
    after = yaml.safe_load(cli.config_text)
    for keys, value in leaves(SETTINGS[config]):
        assert read(after, keys) == value, keys
    for keys, value in leaves(SETTINGS["morph.yaml"]):
        if not overridden(SETTINGS[config], keys):
            assert read(after, keys) == value, keys


def leaves(settings, keys=()):
    """Yield every (keys, value) of nested settings."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, (*keys, key))
        else:
            yield (*keys, key), value


def read(settings, keys):
    for key in keys:
        settings = settings[key]
    return settings


def overridden(override, keys):
    """Return whether an override sets a key, or what holds it; another class has other arguments."""
    for key in keys:
        if not isinstance(override, dict) or "class_path" in override:
            return True
        if key not in override:
            return False
        override = override[key]
    return True


def test_an_override_is_a_handful_of_lines():
    assert {config for config in OVERRIDES if len((EXPERIMENTS / config).read_text().splitlines()) > 6} == {
        "budgets/cpu_64.yaml",
        "budgets/gpu_128.yaml",
        "recipes/scratch.yaml",
    }, "a budget and a recipe are set-up tables of their own"


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("last", [False, True])
def test_every_sweep_makes_a_command_line_that_builds(sweep, last, build):
    """As the agent of W&B does it: `${args}` becomes `--key=value` for every parameter."""
    content = SETTINGS[sweep]
    env, program, verb, *command = content["command"]
    assert (env, program, verb, command[-1]) == ("${env}", "mtmsa", "fit", "${args}")
    values = {name: choices(parameter)[-last] for name, parameter in content["parameters"].items()}
    cli = build(*command[:-1], *[f"--{name}={value}" for name, value in values.items()])
    after = yaml.safe_load(cli.config_text)
    for name, value in values.items():
        wanted = yaml.safe_load(value) if isinstance(value, str) else value
        assert read(after, name.split(".")) == wanted, name
    assert content["metric"]["name"].removeprefix("val/") in cli.model.metrics.val_metrics
    assert after["test_after_fit"] is False, "settings are chosen by validation"


def choices(parameter):
    """Return values that the agent may choose for a parameter of a sweep."""
    if "distribution" in parameter:
        return [parameter["min"], parameter["max"]]
    return parameter.get("values") or [parameter["value"]]


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # inside wandb-workspaces
def test_the_workspace_shows_metrics_that_are_logged():
    layout = runpy.run_path(str(EXPERIMENTS / "workspace.py"))["workspace"]("someone", "ages")
    shown = [key for section in layout.sections for panel in section.panels for key in keys_of(panel)]
    metrics = [key.partition("/")[2] for key in shown if key.startswith(("val/", "test/"))]
    known = {spec.name for spec in METRICS} | {"loss", "age_loss", "gender_loss", "race_loss"}
    pictures = {"cumulative_score", "predicted_against_true"}
    pictures |= {f"confusion_{task}" for task in ("age_groups", "gender", "race")}
    assert set(metrics) <= known | pictures
    assert pictures <= set(metrics)
    assert len(layout.sections) == 6


def keys_of(panel):
    """Return what a panel shows."""
    for field in ("y", "metrics", "media_keys"):
        if values := getattr(panel, field, None):
            return [getattr(value, "name", value) for value in values]
    return []


def test_the_table_of_experiments_names_every_study_and_sweep_folder():
    text = (EXPERIMENTS / "README.md").read_text()
    assert [study for study in STUDIES if f"`mtmsa reproduce {Path(study).stem}`" not in text] == []


def test_there_is_an_override_for_every_age_head_which_sets_it_and_nothing_else():
    heads = {config: SETTINGS[config] for config in OVERRIDES if config.startswith("heads/")}
    paths = [settings["model"]["age"]["class_path"] for settings in heads.values()]
    assert sorted(paths) == sorted(
        f"mtmsa_lightning.{name}" for name in age_heads.__all__ if name != "AgeHead"
    )
    for settings, path in zip(heads.values(), paths, strict=True):
        assert settings == {"model": {"age": {"class_path": path}}}


@pytest.mark.parametrize("name", ["DLDLv2AgeHead", "L1AgeHead"])  # that all have a path is tested above
def test_an_age_head_is_chosen_by_its_name(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", "morph.yaml", "--model.age", name, "--print_config"])
    assert stopped.value.code == 0
    age = yaml.safe_load(capsys.readouterr().out)["model"]["age"]
    assert age["class_path"] == f"mtmsa_lightning.{name}"
    assert age["init_args"] == getattr(age_heads, name)(1).init_args


def test_the_command_line_sets_arguments_of_the_head_that_a_config_chose(build):
    cli = build("--config", "morph.yaml", "--config", "heads/dldl.yaml", "--model.age.sigma", "3")
    assert cli.model.age.init_args == {"min_age": 0, "max_age": 116, "sigma": 3.0, "dropout": 0.0}


def test_shipped_configs_hold_no_path_of_one_machine():
    for config in CONFIGS:
        assert ": /" not in (EXPERIMENTS / config).read_text()


def test_experiments_lie_beside_the_package():
    assert Path(EXPERIMENTS).parent.joinpath("pyproject.toml").is_file()
