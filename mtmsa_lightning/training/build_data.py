"""DataModules from command lines: datasets recognised by their files, classes built by their settings."""

import json
import posixpath
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.data.datasets import CLASSES, DATA, RELEASES
from mtmsa_lightning.errors import ConfigError, DataError, MTMSAError
from mtmsa_lightning.settings.configs import classes_first, find_config, option, split_configs

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule


def recognise(root: Path, table: str | None = None) -> str:
    """Return the name of the dataset in a folder of a release or a prepared set, recognised by its files.

    Raises:
        DataError: No known dataset is there; the message lists the known layouts.
    """
    if not root.is_dir():
        beside = f": is a file; give its folder: --root {root.parent} --data.table {root.name}"
        raise DataError(f"{root}{beside if root.is_file() else ': no such folder'}")

    from mtmsa_lightning.data.release_files import find_file, list_images

    prepared = prepared_name(root)
    if prepared:
        return prepared if prepared in CLASSES else "csv"
    parquet = find_file(root, "faces.parquet") or any((root / "data").glob("*.parquet"))
    if table or find_file(root, "faces.csv") or parquet:
        return "csv"
    modules = {name: import_module(f"mtmsa_lightning.data.datasets.{name}") for name in RELEASES}
    listing = list_images(root)
    files = {posixpath.basename(path).lower() for path in listing.others}
    for name, module in modules.items():
        if any(file.lower() in files for file in getattr(module, "FILES", ())):
            return name
    for name, module in modules.items():
        if hasattr(module, "NAMES") and any(
            map(re.compile(f"(?:.*/)?(?:{module.NAMES})").fullmatch, listing)
        ):
            return name
    marks = {
        name: " or ".join(getattr(module, "FILES", ())) or module.LAYOUT for name, module in modules.items()
    }
    layouts = "".join(f"\n  {name:<14} {mark}" for name, mark in {**marks, "csv": "faces.csv"}.items())
    raise DataError(
        f"{root}: no dataset is recognised there. Known ones, by a file or image names:{layouts}\n"
        "Name one to see its whole layout: --data NAME"
    )


def build_data(
    args: Sequence[str], config_of_run: Path | None = None, adapt: Callable[[Any], None] | None = None
) -> "FaceDataModule":
    """Build a DataModule from arguments of ``mtmsa fit``; only the section ``data`` of configs is used.

    Args:
        args: ``--config=X``, ``--data=CLASS``, ``--data.NAME=VALUE``.
        config_of_run: The config of a checkpoint's run, which the other configs override. It may choose only
            the classes described in :mod:`~mtmsa_lightning.settings.class_paths`.
        adapt: Changes the arguments of the class after parsing.
    """
    import mtmsa_lightning
    from mtmsa_lightning.data.datamodule import FaceDataModule
    from mtmsa_lightning.runs.status import places_of_run
    from mtmsa_lightning.settings.class_paths import import_from_here, own_names, parsing

    for name in DATA.values():  # the parser finds a class by its bare name once it has been imported
        getattr(mtmsa_lightning, name)
    configs, arguments = split_configs(args)
    own = own_names(args)
    import_from_here(own)
    files = []
    if config_of_run:
        files = [str(config_of_run)]
        arguments = [*places_of_run(config_of_run.parent, args), *arguments]
    sections = _data_sections([*files, *configs])
    if (files or configs) and not sections and not chooses_class(arguments):
        raise ConfigError(f"--config {[*files, *configs][-1]}: has no section `data`")
    named = [*(f"--config={name}" for name in files), *args]
    with parsing(files, own, (FaceDataModule,)):
        return _parse([*sections, *classes_first(arguments)], named, adapt or (lambda settings: None))


def _parse(args: Sequence[str], named: Sequence[str], adapt: Callable[[Any], None]) -> "FaceDataModule":
    """Build the DataModule of parsed arguments; messages suggest settings of the arguments ``named``."""
    from jsonargparse import ArgumentParser

    from mtmsa_lightning.data.datamodule import FaceDataModule
    from mtmsa_lightning.settings.error_messages import as_config_error, explain
    from mtmsa_lightning.training.setting_hints import known_settings

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(FaceDataModule, "data", required=True, fail_untyped=False)
    try:
        settings = parser.parse_args(args)
    except Exception as error:
        message = explain(error, lambda: known_settings(named))
        if isinstance(error, MTMSAError) or message is None:
            raise
        raise ConfigError(message) from error
    adapt(settings.data.init_args)
    with as_config_error():
        data: FaceDataModule = parser.instantiate_classes(settings).data
    return data


def _data_sections(configs: Sequence[str]) -> list[str]:
    """Return the sections ``data`` of configs, each as a ``--config`` argument."""
    contents = [load_yaml(find_config(name).read_text(encoding="utf-8")) for name in configs]
    sections = [content["data"] for content in contents if content.get("data") is not None]
    return [f"--config={json.dumps({'data': section})}" for section in sections]


def chooses_class(arguments: Sequence[str]) -> bool:
    """Return whether arguments of ``mtmsa fit`` name a DataModule."""
    return any(option(arguments, name) is not None for name in ("data", "data.class_path"))


def prepared_name(root: Path) -> str:
    """Return the dataset of a prepared set, "" for a raw release."""
    from mtmsa_lightning.data.prepared.format import is_prepared, read_description

    return str(read_description(root)["dataset"]) if is_prepared(root) else ""
