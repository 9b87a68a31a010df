"""Checks of arguments before torch and Lightning, whose imports take seconds."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from mtmsa_lightning._utils.file_access import find_normalised
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.checkpoints import check_checkpoint
from mtmsa_lightning.settings.configs import find_config, option, split_configs
from mtmsa_lightning.settings.error_messages import NO_DATA
from mtmsa_lightning.training.build_data import chooses_class

CONTINUE = "last"
"""Value of ``--ckpt_path`` that continues the newest run."""

NO_FILE = (None, "null", "imagenet")
"""Values of file settings that name no file."""


def check_arguments(command: str, args: Sequence[str]) -> None:
    """Check that required arguments are given and that the named files exist.

    Args:
        command: ``fit``, ``validate`` or ``test``.
        args: Its arguments.

    Raises:
        ConfigError: A config is missing or not YAML, weights or a split file do not exist, or a required
            argument is missing.
        CheckpointError: There is no such checkpoint.
    """
    configs, others = split_configs(args)
    for before, arg in zip(["", *others], others, strict=False):
        if arg.endswith((".yaml", ".yml")) and not arg.startswith("-") and not before.startswith("-"):
            raise ConfigError(f"{arg}: write --config {arg}")
    for name in configs:
        find_config(name)
    if asks_for_help(args):
        return
    ckpt_path = option(args, "ckpt_path")
    if ckpt_path is not None and ckpt_path not in ("null", CONTINUE):
        check_checkpoint(ckpt_path)
    elif command != "fit" and ckpt_path == CONTINUE:
        raise ConfigError(
            f"--ckpt_path {CONTINUE} continues a training: give a checkpoint or a run directory"
        )
    elif command != "fit":
        raise ConfigError(f"`mtmsa {command}` needs --ckpt_path: a checkpoint or a run directory")
    elif not names_data(args):
        raise ConfigError(NO_DATA)
    if command == "fit" and ckpt_path is None:  # a checkpoint has weights
        _check_file("model.weights", _setting(args, "model", "weights"))
    _check_file("data.split_file", _setting(args, "data", "split_file"))


def names_data(args: Sequence[str]) -> bool:
    """Return whether arguments of ``mtmsa fit`` name a config or a DataModule."""
    return bool(split_configs(args)[0]) or chooses_class(args)


def asks_for_help(args: Sequence[str]) -> bool:
    """Return whether a command line only prints help or its settings."""
    return any(arg.startswith(("--help", "-h", "--print_config")) or arg.endswith(".help") for arg in args)


def _check_file(name: str, value: str | None) -> None:
    if value not in NO_FILE and not find_normalised(Path(str(value))).exists():
        raise ConfigError(f"--{name} {value}: no such file or folder")


def _setting(args: Sequence[str], section: str, key: str) -> str | None:
    """Return the value of a setting on the command line, or else in the last config that has it."""
    for name in (f"{section}.{key}", f"{section}.init_args.{key}"):
        if (given := option(args, name)) is not None:
            return given
    for config in reversed(split_configs(args)[0]):
        settings = yaml.safe_load(find_config(config).read_text(encoding="utf-8")).get(section) or {}
        for of_section in (settings, settings.get("init_args") or {}):
            if key in of_section:
                value: str | None = of_section[key]
                return value
    return None
