"""``mtmsa sweep``: choose settings by validation."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning.cli.arguments import Parser, whole_number_from
from mtmsa_lightning.cli.commands.crossval import fit_arguments
from mtmsa_lightning.cli.data_arguments import add_fit_arguments
from mtmsa_lightning.settings.configs import option
from mtmsa_lightning.studies.launch import PLACES, Launch
from mtmsa_lightning.studies.sweep import read_sweep, run_sweep


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa sweep",
        usage="mtmsa sweep FILE [--trials N] [--parallel N] [--launch local|ray|slurm] [any argument of "
        "`mtmsa fit`]",
        description="Run a sweep file of W&B by Optuna, without an account: train trials, each in its own "
        "process, and choose the settings with the best validation metric. Writes table.csv and best.yaml, a "
        "config with the best settings, to <root>/sweeps/<name>/. Repeat the command after an interruption. "
        "The test part is not used. All other arguments go to `mtmsa fit`.",
    )
    parser.add_argument("sweep", metavar="FILE", help="a sweep file, or a shipped one: msa, optimiser, tasks")
    add_fit_arguments(parser)
    add = parser.add_argument
    add("--trials", type=whole_number_from(1), default=30, metavar="N",
        help="trials in all; of a grid at most its combinations")  # fmt: skip
    add("--sampler_seed", type=whole_number_from(0), default=0, metavar="SEED",
        help="of the choice of settings")  # fmt: skip
    add("--parallel", type=whole_number_from(1), default=1, metavar="N",
        help="trials at once, chosen together")  # fmt: skip
    add("--launch", choices=PLACES, default="local", help="as of `mtmsa crossval`")
    add("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="options of sbatch for --launch slurm")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    fit_args = fit_arguments(options, others)
    sweep = read_sweep(options.sweep)
    root = option(fit_args, "trainer.default_root_dir") or "runs"
    folder = Path(root).absolute() / "sweeps" / sweep.file.stem
    launch = Launch(options.launch, options.parallel, tuple(options.slurm))
    with locked(folder, "mtmsa sweep"):
        run_sweep(sweep, fit_args, folder, options.trials, options.sampler_seed, launch)
