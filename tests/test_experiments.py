from pathlib import Path

import pytest
import yaml

from mtmsa_lightning.cli import main
from mtmsa_lightning.configs import SHIPPED
from mtmsa_lightning.models import age_heads
from mtmsa_lightning.training import TrainingCLI

EXPERIMENTS = SHIPPED[1]
CONFIGS = sorted(str(file.relative_to(EXPERIMENTS)) for file in EXPERIMENTS.rglob("*.yaml"))
SETTINGS = {config: yaml.safe_load((EXPERIMENTS / config).read_text()) for config in CONFIGS}
COMPLETE = [config for config in CONFIGS if "data" in SETTINGS[config]]
OVERRIDES = [config for config in CONFIGS if "data" not in SETTINGS[config]]
"""Configs that change some settings of a complete one."""


def test_all_promised_configs_are_there():
    assert {"morph.yaml", "adience.yaml", "utkface.yaml", "demo.yaml"} <= set(COMPLETE)


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
    assert monitor.removeprefix("val/") in cli.model.metrics["val_metrics"]


@pytest.mark.parametrize("config", OVERRIDES)
def test_every_override_builds_on_a_complete_config(config, build):
    build("--config", "demo.yaml", "--config", config)


def test_there_is_an_override_for_every_age_head_which_sets_it_and_nothing_else():
    heads = {config: SETTINGS[config] for config in OVERRIDES if config.startswith("heads/")}
    paths = [settings["model"]["age"]["class_path"] for settings in heads.values()]
    assert sorted(paths) == sorted(
        f"mtmsa_lightning.{name}" for name in age_heads.__all__ if name != "AgeHead"
    )
    for settings, path in zip(heads.values(), paths, strict=True):
        assert settings == {"model": {"age": {"class_path": path}}}


@pytest.mark.parametrize("name", sorted(set(age_heads.__all__) - {"AgeHead"}))
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
