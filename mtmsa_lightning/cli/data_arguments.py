"""The choice of a dataset on the command line."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.training.build_data import _prepared_name, chooses_class, recognise

if TYPE_CHECKING:
    pass


SETTINGS = {
    "protocol": "split protocol (default: the dataset's own)",
    "fold": "test fold, from 0",
    "seed": "seed of the split",
    "val_fraction": "share of the training images to validate on",
    "split_file": "a published list, for the protocol predefined",
    "label_rule": "Adience: canonical or extended",
    "variant": "Adience: aligned or faces",
    "table": "csv: file name of the table",
}
"""Settings of a DataModule that these verbs take by their bare names."""


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a dataset.

    A class of the user's own is given as ``--data CLASS``, any other setting as ``--data.NAME VALUE``.
    """
    parser.add_argument("dataset", nargs="?", choices=[*CLASSES], help="default: recognised by its layout")
    parser.add_argument("--root", type=Path, help="folder of the release or of a prepared set")
    parser.add_argument(
        "--config", action="append", default=[], metavar="X.yaml", help="take the settings of a config"
    )
    for name, text in SETTINGS.items():
        parser.add_argument(f"--{name}", metavar="VALUE", help=text)
    parser.add_argument("--columns", nargs="+", metavar="OURS=THEIRS", help="csv: e.g. age=years")
    parser.add_argument("--clean", nargs="+", metavar="RULE", help="cleaning rules, e.g. drop-conflicting")


def parse(parser: argparse.ArgumentParser, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse a command line that may also hold settings of ``mtmsa fit``, such as ``--data.crop 0.9``.

    Args:
        parser: Knows all arguments without a dot in their name.
        args: The command line after the verb.

    Returns:
        The parsed arguments, and those with a dot, and ``--data``, as they stand.
    """
    own: list[str] = []
    dotted: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if name != "--data" and not (name.startswith("--") and "." in name):
            own.append(word)
            continue
        dotted.append(word)
        if not equals and rest and not rest[0].startswith("--"):
            dotted.append(rest.pop(0))
    return parser.parse_args(own), dotted


def data_arguments(options: argparse.Namespace, others: Sequence[str]) -> list[str]:
    """Return the choice of a dataset as arguments of ``mtmsa fit``.

    Args:
        options: Parsed arguments of :func:`add_data_arguments`.
        others: Settings of ``mtmsa fit``, see :func:`parse`.

    Raises:
        ConfigError: Neither a dataset nor its folder is given, the dataset is given twice, or a column is not
            named as ``OURS=THEIRS``.
        DataError: No dataset was named and none is recognised.
    """
    for text in options.columns or ():
        if "=" not in text:
            raise ConfigError(f"--columns {text}: name columns as OURS=THEIRS, e.g. age=years")
    arguments = []
    if options.dataset and chooses_class(others):
        raise ConfigError(f"{options.dataset} and --data both name a dataset: give one of them")
    if options.dataset or not (options.config or chooses_class(others)):
        if options.root is None and options.dataset is None:
            raise ConfigError("name a dataset or its folder: --root DIR")
        dataset = options.dataset or recognise(options.root, options.table)
        arguments.append(f"--data={CLASSES[dataset]}")
        if dataset == "csv" and options.root is not None and _prepared_name(options.root):
            arguments.append(f"--data.dataset_name={_prepared_name(options.root)}")
    if options.root is not None:
        arguments.append(f"--data.root={options.root}")
    given = {name: getattr(options, name) for name in SETTINGS}
    if options.columns is not None:
        given["columns"] = json.dumps(dict(text.split("=", 1) for text in options.columns))
    if options.clean is not None:
        given["clean"] = json.dumps(options.clean)
    arguments += [f"--data.{name}={value}" for name, value in given.items() if value is not None]
    return [*arguments, *others]
