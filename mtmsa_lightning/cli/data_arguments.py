"""The arguments that choose a dataset and a device, the same in all commands."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.cli.arguments import Parser, add_allow_classes
from mtmsa_lightning.data.datasets import CLASSES, DATA
from mtmsa_lightning.data.remote import local_copy
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import option
from mtmsa_lightning.training.build_data import chooses_class, prepared_name, recognise

SHORT = {
    "root": "data.root", "num_workers": "data.num_workers", "accelerator": "trainer.accelerator",
    "devices": "trainer.devices", "precision": "trainer.precision",
}  # fmt: skip
"""Settings of ``mtmsa fit`` by their short names."""


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--root`` and ``--columns``."""
    add = parser.add_argument
    add(
        "--data", metavar="DATA", help=f"dataset: {', '.join(DATA)}, or the name of a class; its settings "
        "are given as --data.NAME VALUE",
    )  # fmt: skip
    add("--root", metavar="DIR", help="folder of the dataset: a release or a prepared set")
    add("--columns", nargs="+", metavar="OURS=THEIRS", help="csv: columns of the table, e.g. age=years")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a dataset and how it is loaded."""
    add_source_arguments(parser)
    add = parser.add_argument
    add("--config", "-c", action="append", default=[], metavar="X.yaml", help="config; may be repeated")
    add("--num_workers", metavar="N", help="processes that load images")


def add_trainer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose devices and precision."""
    add = parser.add_argument
    add("--accelerator", metavar="NAME", help="auto, cpu or gpu (default: auto)")
    add("--devices", metavar="N", help="number of devices")
    add("--precision", metavar="NAME", help="Lightning's precision, e.g. 32-true or bf16-mixed")


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that a command passes on to ``mtmsa fit``."""
    add_data_arguments(parser)
    add_trainer_arguments(parser)
    add_allow_classes(parser)


def expand(args: Sequence[str]) -> list[str]:
    """Return arguments of ``fit``, ``validate`` or ``test`` with the short names written out."""
    parser = Parser(add_help=False)
    add_data_arguments(parser)
    add_trainer_arguments(parser)
    options, others = parser.parse_known_args(args)
    return data_arguments(options, others, recognised=option(others, "ckpt_path") is None)


def data_arguments(
    options: argparse.Namespace, others: Sequence[str], recognised: bool = False, required: bool = False
) -> list[str]:
    """Return parsed arguments, and further ones of ``mtmsa fit`` unchanged, as arguments of ``mtmsa fit``.

    Without ``--config`` and ``--data``, the dataset is recognised by its files or, if ``required``, an error.
    """
    refuse_words(others)
    root, data = options.root, DATA.get(options.data, options.data)
    arguments = [f"--config={name}" for name in options.config]
    if not (data or arguments or chooses_class(others)):
        if recognised and root is not None:
            data = CLASSES[recognise(local_copy(root), option(others, "data.table"))]
        elif required:
            raise ConfigError("name a dataset or its folder: --data NAME or --root DIR")
    if data:
        arguments.append(f"--data={data}")
    if data == CLASSES["csv"] and root is not None and option(others, "data.dataset_name") is None:
        name = prepared_name(local_copy(root))
        arguments += [f"--data.dataset_name={name}"] if name else []
    given = {path: getattr(options, name, None) for name, path in SHORT.items()}
    if options.columns is not None:
        given["data.columns"] = json.dumps(column_names(options.columns))
    arguments += [f"--{path}={value}" for path, value in given.items() if value is not None]
    return [*arguments, *others]


def refuse_words(others: Sequence[str]) -> None:
    """Refuse arguments that belong to no option; a config without ``--config`` is refused elsewhere."""
    for before, word in zip(["", *others], others, strict=False):
        if word.startswith("-") or word.endswith((".yaml", ".yml")):
            continue
        if before.startswith("-") and "=" not in before:
            continue  # the value of an option
        how = f"write --data {word}" if word in DATA else "settings are given as --NAME VALUE"
        if Path(word).exists():
            how = f"write --root {word} for a dataset, --ckpt_path {word} for a checkpoint or run"
        raise ConfigError(f"unexpected argument {word!r}: {how}")


def column_names(pairs: Sequence[str]) -> dict[str, str | None]:
    """Return their names of columns by ours, given as ``OURS=THEIRS``; an empty name is None: not used."""
    parts = [text.partition("=") for text in pairs]
    if not all(ours and sign for ours, sign, _ in parts):
        raise ConfigError(f"--columns {' '.join(pairs)}: name columns as OURS=THEIRS, e.g. age=years")
    return {ours: theirs or None for ours, _, theirs in parts}
