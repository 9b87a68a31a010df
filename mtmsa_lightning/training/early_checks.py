"""Checks of arguments before the import of torch and Lightning, which takes seconds."""

from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning._utils.file_access import find_normalised
from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.checkpoints import check_checkpoint
from mtmsa_lightning.runs.starter import names_starter, starter_folder
from mtmsa_lightning.settings.configs import find_config, option, setting, split_configs
from mtmsa_lightning.settings.error_messages import NO_DATA
from mtmsa_lightning.training.build_data import chooses_class

CONTINUE = "last"
"""Value of ``--ckpt_path`` that continues the newest run."""

NO_FILE = (None, "null", "imagenet")
"""Values of file settings that name no file."""


def check_arguments(command: str, args: Sequence[str]) -> None:
    """Check that required arguments are given and that the named files exist.

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
        how = "give a checkpoint or a run directory"
        raise ConfigError(f"--ckpt_path {CONTINUE} continues a training: {how}")
    elif command != "fit":
        raise ConfigError(f"`mtmsa {command}` needs --ckpt_path: a checkpoint or a run directory")
    elif not names_data(args):
        raise ConfigError(NO_DATA)
    files = ["data.split_file"]
    if command == "fit" and ckpt_path is None:  # a checkpoint has weights
        files.append("model.weights")
    if command == "fit":
        files.append("model.teacher")
    for name in files:
        section, _, key = name.partition(".")
        value = setting(args, name, f"{section}.init_args.{key}")
        if str(value).startswith("["):  # a list on a command line
            value = load_yaml(str(value))
        for each in value if isinstance(value, list) else [value]:
            published = each in NO_FILE or str(each).startswith("IMAGENET1K_")
            if names_starter(str(each)):
                starter_folder()
            elif not published and not find_normalised(Path(str(each))).exists():
                raise ConfigError(f"--{name} {each}: no such file or folder")


def names_data(args: Sequence[str]) -> bool:
    """Return whether arguments of ``mtmsa fit`` name a config or a DataModule."""
    return bool(split_configs(args)[0]) or chooses_class(args)


def asks_for_help(args: Sequence[str]) -> bool:
    """Return whether a command line only prints help or its settings."""
    return any(arg.startswith(("--help", "-h", "--print_config")) or arg.endswith(".help") for arg in args)
