"""Find configuration files by name and order the arguments of a command line by precedence."""

import codecs
import json
import locale
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
SHIPPED = (PACKAGE / "experiments", PACKAGE.parent / "experiments")
"""Folders of the shipped configs: in an installed wheel, and in a checkout."""

NO_CONFIGS = ("studies", "sweeps")
"""Folders there whose files are not configs of a run."""

_OTHER_FILES = (
    ({"command", "versions"}, "the record of a run, not a config: its settings are in config.yaml beside it"),
    ({"variants", "baseline"}, "a study, not a config: `mtmsa reproduce` runs it"),
    ({"method", "parameters"}, "a W&B sweep, not a config: `wandb sweep` runs it"),
)
"""Keys of YAML files that are not configs, and the message for them."""

LINKED = ("image_size", "crop", "gender_classes", "race_classes", "age_groups")
"""Model arguments that are set from the data, never from a checkpoint's settings."""

FACTORIES = ("optimizer", "scheduler")
"""Model arguments that a checkpoint made in Python may lack: a lambda cannot be recorded."""


def find_config(name: str) -> Path:
    """Return the file of a config: a path from the working directory, else a shipped one.

    Raises:
        ConfigError: There is none (the message names the shipped configs), or it is not valid YAML.
    """
    for folder in (Path(), *SHIPPED):
        if (folder / name).is_file():
            return _readable(folder / name)
    if (Path(name) / "config.yaml").is_file():
        raise ConfigError(f"--config {name}: a folder; did you mean {Path(name) / 'config.yaml'}?")
    names = shipped_configs()
    near = get_close_matches(name, names, n=1)
    folders = sorted({each.partition("/")[0] for each in names if "/" in each})
    plain = ", ".join(each for each in names if "/" not in each)
    known = f"did you mean {near[0]}?" if near else f"shipped are {plain}, and files in {', '.join(folders)}"
    raise ConfigError(f"--config {name}: no such file here ({Path.cwd()}), nor shipped; {known}")


def shipped_configs() -> list[str]:
    """Return the names of the shipped configs."""
    folder = next((folder for folder in SHIPPED if folder.is_dir()), None)
    files = [file.relative_to(folder) for file in folder.rglob("*.yaml")] if folder else []
    return sorted(file.as_posix() for file in files if file.parts[0] not in NO_CONFIGS)


def read_mapping(file: Path, what: str) -> dict[str, Any]:
    """Read a YAML file of ``key: value`` lines, such as a config; raise ConfigError if it is not ``what``."""
    try:
        content = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: not {what}: it should hold `key: value` lines")
    return content


def _readable(file: Path) -> Path:
    content = read_mapping(file, "a config")
    encoding = locale.getpreferredencoding(False)  # which jsonargparse reads with
    if codecs.lookup(encoding).name != "utf-8" and not file.read_text(encoding="utf-8").isascii():
        raise ConfigError(f"{file}: UTF-8, which this locale ({encoding}) misreads: set PYTHONUTF8=1")
    if "allow_classes" in content:
        raise ConfigError(
            f"{file}: allow_classes is given on a command line only: remove it there and add "
            f"--allow_classes {content['allow_classes']}"
        )
    for keys, problem in _OTHER_FILES:
        if keys <= content.keys():
            raise ConfigError(f"{file}: {problem}")
    return file


def split_configs(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the values of ``--config X`` from all other arguments, in order."""
    configs: list[str] = []
    others: list[str] = []
    rest = iter(args)
    for arg in rest:
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            others.append(arg)
            continue
        name = value if equals else next(rest, None)
        if not name:
            raise ConfigError(f"{flag} needs the name of a file, e.g. `--config morph.yaml`")
        configs.append(name)
    return configs, others


def option(args: Sequence[str], name: str) -> str | None:
    """Return the last value of ``--name value`` or ``--name=value`` on a command line."""
    found = None
    for position, arg in enumerate(args):
        if arg == f"--{name}" and position + 1 < len(args):
            found = args[position + 1]
        elif arg.startswith(f"--{name}="):
            found = arg.partition("=")[2]
    return found


def without_options(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a command line without ``--name value`` and ``--name=value`` of some names."""
    kept: list[str] = []
    rest = iter(args)
    for arg in rest:
        flag, equals, _ = arg.partition("=")
        if flag.removeprefix("--") not in names or not flag.startswith("--"):
            kept.append(arg)
        elif not equals:
            next(rest, None)
    return kept


def setting(args: Sequence[str], *names: str) -> Any:
    """Return a setting, by any of its names, on a command line, or else in the last config that has it."""
    for name in names:
        if (given := option(args, name)) is not None:
            return given
    for config in reversed(split_configs(args)[0]):
        content = read_mapping(find_config(config), "a config")
        for name in names:
            *sections, key = name.split(".")
            section: Any = content
            for each in sections:
                section = section.get(each) if isinstance(section, dict) else None
            if isinstance(section, dict) and key in section:
                return section[key]
    return None


def by_precedence(
    args: Sequence[str],
    checkpoint_hparams: dict[str, Any] | None = None,
    training: bool = True,
    of_run: dict[str, Any] | None = None,
) -> list[str]:
    """Order arguments so that command line > config files > checkpoint > defaults, with configs as paths.

    In the parser later arguments win. A checkpoint that is only evaluated comes after the configs: its
    weights fit its own model only, and the config of another dataset gives the faces to evaluate on.
    All configs override the settings ``of_run``, the checkpoint's run.
    """
    configs, others = split_configs(args)
    ordered = []
    if of_run:
        ordered = [f"--config={yaml.safe_dump(of_run, default_flow_style=True, width=math.inf)}"]
    ordered += [f"--config={find_config(name)}" for name in configs]
    if checkpoint_hparams:
        unknown = {key for key in FACTORIES if checkpoint_hparams.get(key) is None}
        settings = {key: value for key, value in checkpoint_hparams.items() if key not in {*LINKED, *unknown}}
        position = 0 if training else len(ordered)
        ordered.insert(position, f"--config={json.dumps({'model': settings})}")
    return ordered + classes_first(others)


def classes_first(args: Sequence[str]) -> list[str]:
    """Move options that choose a class before those that set its arguments, which choosing a class resets.

    >>> classes_first(["--model.optimizer.lr=0.1", "--model.optimizer", "SGD"])
    ['--model.optimizer', 'SGD', '--model.optimizer.lr=0.1']
    """
    groups: list[list[str]] = []
    for arg in args:
        if arg.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(arg)
    ordered: list[list[str]] = []
    for group in groups:
        flag, _, value = " ".join(group).replace(" ", "=", 1).partition("=")
        name = flag.removesuffix(".class_path")
        arguments = [
            at
            for at, other in enumerate(ordered)
            if other[0].startswith(f"{name}.") and not other[0].startswith(f"{name}.class_path")
        ]
        ordered.insert(arguments[0] if arguments and value != "null" else len(ordered), group)
    return [arg for group in ordered for arg in group]
