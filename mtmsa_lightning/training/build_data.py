"""Datasets on the command line of our own verbs: recognised by their layout, built as DataModules."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.errors import ConfigError, DataError, MTMSAError
from mtmsa_lightning.settings.configs import classes_first, find_config, option

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule

from mtmsa_lightning.data.datasets import CLASSES


def recognise(root: Path, table: str | None = None) -> str:
    """Tell which dataset lies at ``root``, by what is there.

    Args:
        root: Folder of a release or a prepared set.
        table: Name of a table of the user's own.

    Raises:
        DataError: Nothing known is there; the message lists what is looked for.
    """
    if not root.is_dir():
        beside = f": is a file; give its folder: --root {root.parent} --table {root.name}"
        raise DataError(f"{root}{beside if root.is_file() else ': no such folder'}")

    from mtmsa_lightning.data.datasets import adience, face_csv, morph, utkface
    from mtmsa_lightning.data.files import find_file, list_images

    prepared = _prepared_name(root)
    if prepared:
        return prepared if prepared in CLASSES else "csv"
    if table or find_file(root, "faces.csv"):
        return "csv"
    if find_file(root, morph.TABLE):
        return "morph"
    if find_file(root, "fold_0_data.txt"):
        return "adience"
    if any(utkface.is_labelled(path) for path in list_images(root)):
        return "utkface"
    trees = "".join(
        f"\n{name}:\n{module.TREE.strip()}"
        for name, module in (("morph", morph), ("adience", adience), ("utkface", utkface), ("csv", face_csv))
    )
    raise DataError(f"{root}: no dataset is recognised there. Known layouts:{trees}")


def build_data(
    arguments: Sequence[str],
    configs: Sequence[str] = (),
    came_along: Path | None = None,
    adapt: Callable[[Any], None] | None = None,
) -> "FaceDataModule":
    """Build a DataModule from arguments of ``mtmsa fit``; only the section ``data`` of configs is used.

    Args:
        arguments: ``--data=CLASS``, ``--data.NAME=VALUE``.
        configs: Names of configs, as for ``--config``.
        came_along: The config of a checkpoint's own run, read before all others; it names only classes that a
            file may name.
        adapt: Changes the arguments of the class, once they are parsed.

    Raises:
        MTMSAError: For whatever the user can mend.
    """
    from jsonargparse import ArgumentParser

    import mtmsa_lightning
    from mtmsa_lightning.data.datamodule import FaceDataModule
    from mtmsa_lightning.runs.status import places_of_run
    from mtmsa_lightning.settings.messages import as_config_error, explain
    from mtmsa_lightning.settings.named_classes import import_from_here, own_names, parsing
    from mtmsa_lightning.training.known_settings import known_settings

    for name in CLASSES.values():  # the parser finds a class by its bare name once it has been imported
        getattr(mtmsa_lightning, name)
    named = [f"--config={name}" for name in configs]
    own = own_names([*named, *arguments])
    import_from_here(own)
    files = []
    if came_along:  # what it says is not the user's own word
        files = [str(came_along)]
        arguments = [*places_of_run(came_along.parent, [*named, *arguments]), *arguments]
    sections = _data_sections([*files, *configs])
    if (files or configs) and not sections and not chooses_class(arguments):
        raise ConfigError(f"--config {[*files, *configs][-1]}: has no section `data`")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(FaceDataModule, "data", required=True, fail_untyped=False)
    with parsing(files, own, (FaceDataModule,)):
        try:
            settings = parser.parse_args([*sections, *classes_first(arguments)])
        except Exception as error:
            message = explain(
                error, lambda: known_settings([*(f"--config={name}" for name in files), *named, *arguments])
            )
            if isinstance(error, MTMSAError) or message is None:
                raise
            raise ConfigError(message) from error
        if adapt:
            adapt(settings.data.init_args)
        with as_config_error():
            data: FaceDataModule = parser.instantiate_classes(settings).data
    return data


def _data_sections(configs: Sequence[str]) -> list[str]:
    """Return the sections ``data`` of configs, each as a config of its own."""
    import yaml

    contents = [yaml.safe_load(find_config(name).read_text(encoding="utf-8")) for name in configs]
    sections = [content["data"] for content in contents if content.get("data") is not None]
    return [f"--config={json.dumps({'data': section})}" for section in sections]


def chooses_class(arguments: Sequence[str]) -> bool:
    """Tell whether arguments of ``mtmsa fit`` name a DataModule."""
    return any(option(arguments, name) is not None for name in ("data", "data.class_path"))


def _prepared_name(root: Path) -> str:
    """Return the dataset of a prepared set, "" for a raw release."""
    from mtmsa_lightning.data.prepared.format import is_prepared, read_description

    return str(read_description(root)["dataset"]) if is_prepared(root) else ""
