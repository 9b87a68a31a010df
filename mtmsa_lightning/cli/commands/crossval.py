"""``mtmsa crossval``: every fold and seed of a protocol, each trained by a process of its own."""

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtmsa_lightning.cli.arguments import Parser, whole_number, whole_number_from
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import option
from mtmsa_lightning.studies.crossval import crossval

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

OURS = {
    "ckpt_path": "interrupted folds are continued by themselves, and a checkpoint may know the test faces",
    "data.fold": "give --folds",
    "data.init_args.fold": "give --folds",
    "seed_everything": "give --seeds",
}
"""Arguments of ``fit`` that crossval sets itself, with what to do instead."""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa crossval",
        usage="mtmsa crossval --config CONFIG.yaml [--folds 0-4] [--seeds 0 1 2] [--parallel N] "
        "[any argument of `mtmsa fit`]",
        description="Train and test every fold of a protocol, for one or more seeds, each in a process of "
        "its own, then write a summary and the pooled predictions to <root>/<name>/crossval/. What is "
        "complete is skipped and what was interrupted is continued: repeat the command after an "
        "interruption. All other arguments go to `mtmsa fit`, see `mtmsa fit --help`.",
        epilog="The split's seed is --data.seed, the same for all runs. On a CPU the cores are divided among "
        "parallel runs; with several GPUs each run gets as many of its own as --trainer.devices says, in "
        "turn (CUDA_VISIBLE_DEVICES).",
    )
    parser.add_argument(
        "--folds", nargs="+", metavar="FOLDS", help="0-4, or 0,2, or 0 2 (default: all folds of the protocol)"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=whole_number,
        metavar="SEED",
        help="seeds of the runs (default: seed_everything)",
    )
    parser.add_argument(
        "--parallel", type=whole_number_from(1), default=1, metavar="N", help="runs at once (default: 1)"
    )
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: If an argument is of no use, before anything trains; or at the end, if a run failed.
    """
    options, fit_args = parser().parse_known_args(args)
    for name, instead in OURS.items():
        if option(fit_args, name) is not None:
            raise ConfigError(f"--{name}: {instead}")
    folds = None if options.folds is None else numbers(options.folds)
    crossval(fit_args, folds, options.seeds, options.parallel)


def numbers(texts: Sequence[str]) -> list[int]:
    """Read numbers and ranges, e.g. ``0-2,4``.

    Raises:
        ConfigError: If one is neither.
    """
    found: list[int] = []
    for part in ",".join(texts).split(","):
        first, _, last = part.partition("-")
        try:
            found += range(int(first), int(last or first) + 1)
        except ValueError:
            raise ConfigError(f"--folds {part!r}: give numbers and ranges, e.g. 0-4 or 0,2") from None
    return list(dict.fromkeys(found))
