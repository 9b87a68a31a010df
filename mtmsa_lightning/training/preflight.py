"""What is wrong with the arguments of a Trainer's verb, told before anything heavy is imported.

Torch and Lightning take seconds to import, on a cold start many; a name that does not exist needs neither.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from mtmsa_lightning._utils.file_access import find_normalised
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.checkpoints import check_checkpoint
from mtmsa_lightning.settings.configs import find_config, option, split_configs
from mtmsa_lightning.settings.messages import NO_DATA

CONTINUE = "last"
"""Value of ``--ckpt_path`` that continues the newest run."""

NO_FILE = (None, "null", "imagenet")
"""Values of settings for files that name none."""


def check_arguments(verb: str, args: Sequence[str]) -> None:
    """Look for the files that a command line names.

    Args:
        verb: ``fit``, ``validate`` or ``test``.
        args: Arguments after it.

    Raises:
        ConfigError: A config is missing or no YAML, weights or a split file do not exist, or what the verb
            cannot do without is not named.
        CheckpointError: There is no such checkpoint.
    """
    configs, others = split_configs(args)
    for before, arg in zip(["", *others], others, strict=False):
        if arg.endswith((".yaml", ".yml")) and not arg.startswith("-") and not before.startswith("-"):
            raise ConfigError(f"{arg}: write --config {arg}")
    for name in configs:
        find_config(name)
    if asks_for_text(args):
        return
    ckpt_path = option(args, "ckpt_path")
    if ckpt_path is not None and ckpt_path not in ("null", CONTINUE):
        check_checkpoint(ckpt_path)
    elif verb != "fit" and ckpt_path == CONTINUE:
        raise ConfigError(
            f"--ckpt_path {CONTINUE} continues a training: give a checkpoint or a run directory"
        )
    elif verb != "fit":
        raise ConfigError(f"`mtmsa {verb}` needs --ckpt_path: a checkpoint or a run directory")
    elif not configs and not any(arg.startswith("--data") for arg in args):
        raise ConfigError(NO_DATA)
    if verb == "fit" and ckpt_path is None:  # a checkpoint brings its weights along
        _check_file("model.weights", _setting(args, "model", "weights"))
    _check_file("data.split_file", _setting(args, "data", "split_file"))


def asks_for_text(args: Sequence[str]) -> bool:
    """Tell whether a command line only asks what could be said: help, or its own settings."""
    return any(arg.startswith(("--help", "-h", "--print_config")) or arg.endswith(".help") for arg in args)


def _check_file(name: str, value: str | None) -> None:
    if value not in NO_FILE and not find_normalised(Path(str(value))).exists():
        raise ConfigError(f"--{name} {value}: no such file or folder")


def _setting(args: Sequence[str], section: str, key: str) -> str | None:
    """Return the value that counts: that of the command line, else of the last config that has one."""
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
