"""``mtmsa crossval``: train and test every fold and seed of a protocol."""

import argparse
from collections.abc import Sequence

from mtmsa_lightning.cli.arguments import Parser, add_boolean, whole_number_from
from mtmsa_lightning.cli.data_arguments import add_fit_arguments, data_arguments
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import option
from mtmsa_lightning.studies.crossval import crossval
from mtmsa_lightning.studies.launch import PLACES, Launch

OURS = {
    "ckpt_path": "interrupted folds are continued anyway, and a checkpoint may have seen test faces",
    "data.fold": "give --folds",
    "data.init_args.fold": "give --folds",
    "seed_everything": "give --seeds",
}
"""Arguments of ``fit`` that crossval sets itself, and what to do instead."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa crossval",
        usage="mtmsa crossval --config CONFIG.yaml [--folds 0-4] [--seeds 0 1 2] [--parallel N] "
        "[--launch local|ray|slurm] [any argument of `mtmsa fit`]",
        description="Train and test every fold of a protocol, for one or more seeds, each in its own "
        "process, then write a summary and the pooled predictions to <root>/<name>/crossval/. Complete runs "
        "are skipped and interrupted ones continued: repeat the command after an interruption. All other "
        "arguments go to `mtmsa fit`, see `mtmsa fit --help`.",
        epilog="The split's seed is --data.seed, the same for all runs. On a CPU, parallel runs divide the "
        "cores; on GPUs, each run gets as many as given by --devices (CUDA_VISIBLE_DEVICES). --launch slurm "
        "submits all runs as one array of jobs, which go on when the command ends; repeated, it waits for "
        "them again.",
    )
    add_fit_arguments(parser)
    add_run_arguments(parser, "0-4, or 0,2, or 0 2 (default: all folds of the protocol)",
                      "seeds of the runs (default: seed_everything)")  # fmt: skip
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    fit_args = fit_arguments(options, others, recognised=True)
    folds = None if options.folds is None else numbers(options.folds)
    crossval(fit_args, folds, options.seeds, read_launch(options))


def add_run_arguments(parser: argparse.ArgumentParser, folds: str, seeds: str) -> None:
    """Add ``--folds`` and ``--seeds`` with their help texts, and the options of :func:`read_launch`."""
    add = parser.add_argument
    add("--folds", nargs="+", metavar="FOLDS", help=folds)
    add("--seeds", nargs="+", type=whole_number_from(0), metavar="SEED", help=seeds)
    add("--parallel", type=whole_number_from(1), metavar="N",
        help="runs at once (default: one on this machine, as many as possible on a cluster)")  # fmt: skip
    add("--launch", choices=PLACES, default="local", help="train on this machine, on the Ray cluster that "
        "RAY_ADDRESS names or that runs here, or as jobs of SLURM")  # fmt: skip
    add("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="options of sbatch for --launch slurm, "
        "e.g. partition=gpu time=24:00:00 (default: 24 hours, a GPU, 8 cores)")  # fmt: skip
    add_boolean(parser, "--dry_run", "print the command of each run and start nothing")


def read_launch(options: argparse.Namespace) -> Launch:
    """Return how the runs are started."""
    if options.slurm and options.launch != "slurm":
        raise ConfigError("--slurm: is for --launch slurm")
    return Launch(options.launch, options.parallel, tuple(options.slurm), options.dry_run)


def fit_arguments(options: argparse.Namespace, others: Sequence[str], recognised: bool = False) -> list[str]:
    """Return the arguments of ``fit`` without those that crossval sets itself, which are refused."""
    fit_args = data_arguments(options, others, recognised)
    if options.allow_classes:
        fit_args.append(f"--allow_classes={options.allow_classes}")
    for name, instead in OURS.items():
        if option(fit_args, name) is not None:
            raise ConfigError(f"--{name}: {instead}")
    return fit_args


def numbers(texts: Sequence[str]) -> list[int]:
    """Read numbers and ranges, e.g. ``0-2,4``."""
    found: list[int] = []
    for part in ",".join(texts).split(","):
        first, _, last = part.partition("-")
        try:
            found += range(int(first), int(last or first) + 1)
        except ValueError:
            raise ConfigError(f"--folds {part!r}: give numbers and ranges, e.g. 0-4 or 0,2") from None
    return list(dict.fromkeys(found))
