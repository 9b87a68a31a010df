from pathlib import Path

import pytest
import yaml

from mtmsa_lightning.cli import main
from mtmsa_lightning.configs import SHIPPED
from mtmsa_lightning.training import TrainingCLI

EXPERIMENTS = SHIPPED[1]
CONFIGS = sorted(str(file.relative_to(EXPERIMENTS)) for file in EXPERIMENTS.rglob("*.yaml"))


def test_all_promised_configs_are_there():
    assert {"morph.yaml", "adience.yaml", "utkface.yaml", "demo.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_builds_model_data_and_trainer(config, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingCLI, "_run_subcommand", lambda cli, verb: built.append(cli))
    built: list[TrainingCLI] = []
    root = ["--trainer.default_root_dir", str(tmp_path), "--wandb", "disabled"]
    main(["fit", "--config", config, "--trainer.accelerator", "cpu", *root])
    (cli,) = built
    assert cli.model.image_size == cli.datamodule.image_size
    assert cli.model.race_classes == cli.datamodule.race_classes
    assert cli.model.age_groups == cli.datamodule.age_groups
    assert ("race" in cli.model.tasks) == bool(cli.datamodule.race_classes)
    monitor = yaml.safe_load((EXPERIMENTS / config).read_text())["checkpoint"]["monitor"]
    assert monitor.removeprefix("val/") in cli.model.metrics["val_metrics"]


def test_shipped_configs_hold_no_path_of_one_machine():
    for config in CONFIGS:
        assert ": /" not in (EXPERIMENTS / config).read_text()


def test_experiments_lie_beside_the_package():
    assert Path(EXPERIMENTS).parent.joinpath("pyproject.toml").is_file()
