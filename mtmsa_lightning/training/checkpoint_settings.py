"""Settings that a command takes from a checkpoint and its run."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtmsa_lightning.data.prepared.format import BOXED
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import checkpoint_file
from mtmsa_lightning.runs.recorded_settings import SECTIONS, load_config
from mtmsa_lightning.settings.configs import option, split_configs, without_options
from mtmsa_lightning.training.early_checks import names_data

log = logging.getLogger(__name__)

CALL_ARGUMENTS = ("ckpt_path", "run_dir", "allow_classes")
"""Arguments of one command, which are not recorded as settings."""

ARCHITECTURE = ("backbone", "msa", "last_stride", "stem_pool", "aux_stage", "age", "gender", "race")
"""Model settings that must equal those that a checkpoint's weights were trained with."""


def check_architecture(recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise ConfigError if settings change the network of a checkpoint; some changes would even load."""
    for key in ARCHITECTURE:
        if key in recorded and recorded[key] != settings[key]:
            raise ConfigError(
                f"--model.{key} {settings[key]} does not fit the checkpoint, which was trained with "
                f"{recorded[key]}: leave it out"
            )


class ConfigOfRun(NamedTuple):
    """The config of a checkpoint's run."""

    file: Path
    settings: dict[str, Any]  # without those about uploads and output folders
    left: tuple[str, ...]  # names of the settings with a value that were removed


def config_of_run(args: Sequence[str], ckpt_path: str) -> ConfigOfRun | None:
    """Return the config of a checkpoint's run, which is used if no config is given.

    Raises:
        CheckpointError: It chooses an output folder, or names other files to read.
    """
    file = checkpoint_file(ckpt_path).parent.parent / "config.yaml"
    if split_configs(args)[0] or not file.is_file():
        return None
    settings = load_config(file)
    for key in (*CALL_ARGUMENTS, "config"):
        if key in settings:
            raise CheckpointError(f"{file}: {key} is given on a command line only: remove it there")
    for key in (*SECTIONS, "checkpoint"):
        if not isinstance(settings.get(key), dict | None):  # the parser reads a string as a file name
            raise CheckpointError(f"{file}: {key} must hold `name: value` lines")
    trainer = settings.get("trainer") or {}
    for key in (*settings, *trainer):
        if not str(key).isidentifier():  # such as `trainer.logger` or `logger+`
            raise CheckpointError(f"{file}: there is no setting {key!r}")
    name = Path(str(settings.get("name", "")))
    if name.is_absolute() or ".." in name.parts:
        raise CheckpointError(f"{file}: name {str(name)!r} leads out of the folder of runs")
    left = []
    places = {"": ("wandb", "wandb_faces"), "trainer.": ("logger", "default_root_dir")}
    for place, keys in places.items():
        section = trainer if place else settings
        for key in keys:
            if section.get(key) not in ("disabled", False) and section.pop(key, None) not in (None, "runs"):
                left.append(f"{place}{key}")
    return ConfigOfRun(file, settings, tuple(left))


def follow_checkpoint(settings: Any, recorded: Mapping[str, Any], args: Sequence[str]) -> None:
    """Set image size and crop in ``settings`` of the data to those of the checkpoint, unless in ``args``.

    ``recorded`` are the settings of its model and the ``preparation`` of its training data. With a
    preparation, its crop does not apply to raw photos.
    """
    changed = []
    raw = recorded.get("preparation") in (None, BOXED)
    for key in ("image_size", "crop") if raw else ("image_size",):
        if any(option(args, f"data.{prefix}{key}") is not None for prefix in ("", "init_args.")):
            continue
        if key in settings and key in recorded and settings[key] != recorded[key]:
            changed.append(f"data.{key} {recorded[key]} instead of {settings[key]}")
            settings[key] = recorded[key]
    if changed:
        log.info("set from the checkpoint: %s", ", ".join(changed))


def continuing(run: Path, command: str, args: Sequence[str]) -> str:
    """Return the command line that continues a run; without data among ``args``, it names its config."""
    given = without_options(args, ("ckpt_path", "run_dir"))
    if not names_data(given):
        given = [f"--config={run / 'config.yaml'}", *given]
    line = shlex.join(["mtmsa", command, *given, "--run_dir", str(run)])
    if "SLURM_STEP_ID" in os.environ:
        return f"the same launcher (srun) with: {line}"
    return f"the same launcher (torchrun) with: {line}" if "RANK" in os.environ else line
