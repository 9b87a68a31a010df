"""The recorded settings of runs and their differences."""

from pathlib import Path
from typing import Any

import yaml

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.errors import ConfigError

SECTIONS = ("data", "model", "trainer")
"""Sections of a config with settings by name."""

RESUMABLE_CHANGES = {
    "data": ("root", "num_workers", "pin_memory", "verify", "strict"),
    "trainer": (
        "max_epochs", "max_steps", "max_time", "default_root_dir", "logger", "log_every_n_steps", "profiler",
        "accelerator", "strategy", "devices", "num_nodes", "benchmark", "detect_anomaly",
        "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps",
    ),
    "model": ("channels_last", "checkpoint_activations"),
    "optimizer": ("fused", "foreach"),
    "run": ("wandb", "wandb_faces", "test_after_fit", "allow_overlap", "compile"),
}  # fmt: skip
"""Settings that may differ in a continued run: paths, devices, speed and output."""

GLOBAL_BATCH = ("devices", "num_nodes")
"""Settings of the trainer that results depend on through the number of processes."""

LENGTH = ("max_epochs", "max_steps", "max_time")
"""Settings of the trainer that may be larger in a continued run."""


def read_config(run: Path) -> dict[str, Any]:
    """Return a run's settings; empty if they cannot be read."""
    try:
        config = load_config(run / "config.yaml")
        return config if all(isinstance(config.get(name) or {}, dict) for name in SECTIONS) else {}
    except ConfigError:
        return {}


def load_config(file: Path) -> dict[str, Any]:
    """Read the ``config.yaml`` of a run.

    ConfigError if it has YAML aliases, which can expand to billions of values, or cannot be read.
    """
    try:
        text = read_regular(file).decode()
        events = yaml.parse(text, yaml.SafeLoader) if "*" in text else ()
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise ConfigError(f"{file}: it has YAML aliases (*name): write out what they stand for")
        return dict(load_yaml(text))
    except (OSError, yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read as the config of a run: {error}") from error


def training_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without ``RESUMABLE_CHANGES``."""

    def without(settings: Any, free: tuple[str, ...]) -> dict[str, Any]:
        return {key: value for key, value in (settings or {}).items() if key not in free}

    data = dict(config.get("data") or {})
    data["init_args"] = without(data.get("init_args"), RESUMABLE_CHANGES["data"])
    if isinstance(sources := data["init_args"].get("sources"), list):  # of a mixture
        data["init_args"]["sources"] = [
            source | {"init_args": without(source.get("init_args"), RESUMABLE_CHANGES["data"])}
            for source in sources
        ]
    trainer = without(config.get("trainer"), RESUMABLE_CHANGES["trainer"])
    model = without(config.get("model"), RESUMABLE_CHANGES["model"])
    if optimizer := model.get("optimizer"):
        kept = without(optimizer.get("init_args"), RESUMABLE_CHANGES["optimizer"])
        model["optimizer"] = optimizer | {"init_args": kept}
    return without(config, RESUMABLE_CHANGES["run"]) | {"data": data, "trainer": trainer, "model": model}


def training_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the differences of settings that change results, including length and global batch size."""

    def length(config: dict[str, Any]) -> dict[str, Any]:
        return {key: (config.get("trainer") or {}).get(key) for key in (*LENGTH, *GLOBAL_BATCH)}

    learnt = differences(training_settings(old), training_settings(new))
    return learnt + differences(length(old), length(new), "trainer")
