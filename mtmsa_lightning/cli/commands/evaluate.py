"""``mtmsa evaluate``: test a checkpoint, or predictions of another program, and write a report."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtmsa_lightning.cli.arguments import (
    Parser,
    add_boolean,
    add_checkpoint,
    add_several,
    boolean,
    fraction,
    whole_number_from,
)
from mtmsa_lightning.cli.data_arguments import (
    add_data_arguments,
    add_trainer_arguments,
    column_names,
    data_arguments,
)
from mtmsa_lightning.data.stress.names import NAMES
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.ensemble_folder import names_ensemble, network_files
from mtmsa_lightning.settings.configs import option, without_options
from mtmsa_lightning.settings.defaults import CELL_AGES, LEGAL_AGES, MIN_FACES
from mtmsa_lightning.settings.error_messages import NO_DATA
from mtmsa_lightning.training.early_checks import check_arguments, names_data

if TYPE_CHECKING:
    from mtmsa_lightning.reports.report_options import ReportOptions

MIN_MATCHED = 0.5

REPORT_OPTIONS = ("faces", "min_faces", "paper", "legal_ages", "cell_ages", "min_matched")
"""Options of reports, which a matrix has not."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        passed_on=["--wandb_faces"],  # --min_faces is another one
        prog="mtmsa evaluate",
        usage="mtmsa evaluate --ckpt_path C [--config X] [--out DIR] [--faces false] [--KEY VALUE ...]\n"
        "       mtmsa evaluate --ckpt_path C C ... [--config X] [--out DIR]\n"
        "       mtmsa evaluate --predictions FILE --config X [--columns OURS=THEIRS ...] [--out DIR]\n"
        "       mtmsa evaluate --matrix C C ... --on X.yaml Y.yaml ... [--out DIR]",
        description="Test a checkpoint and write a report: one HTML page, plots (SVG, PNG), tables (CSV) and "
        "per-image predictions. The data is that of the checkpoint's run, or of --config or --data. All "
        "arguments of `mtmsa test` may be given. Several checkpoints are tested as one mixture. "
        "With --predictions the report is on predictions that "
        "another program made for the test faces. With --matrix every checkpoint is tested on the test part "
        "of every config; the same command goes on after an interruption.",
    )
    add_checkpoint(parser, required=False)
    add_several(parser)
    add_data_arguments(parser)
    add_trainer_arguments(parser)
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: <run>/evaluation, for other data "
        "<run>/evaluation-<dataset>-<protocol>-fold<k>, for predictions <file>-evaluation beside the file, "
        "for a matrix runs/matrix)",
    )  # fmt: skip
    faces = "show photos in the page: best, worst and most uncertain faces, attention"
    add_boolean(parser, "--faces", faces, default=True)
    parser.add_argument(
        "--min_faces", type=whole_number_from(1), default=MIN_FACES, metavar="N",
        help="least number of faces of a group (gender, race, age) for metrics of its own",
    )  # fmt: skip
    add_boolean(parser, "--paper", "write plots as PDF and the tables of the page as LaTeX too")
    parser.add_argument(
        "--stress", nargs="*", metavar="NAME", choices=NAMES,
        help=f"evaluate changed photos of the same faces too: all changes, or some of {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument("--matrix", nargs="+", metavar="C", help="checkpoints or runs, the rows of a matrix")
    parser.add_argument(
        "--on", nargs="+", metavar="X.yaml", help="with --matrix: configs of the data, its columns"
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE",
        help="predictions of another program, .csv, .tsv or .parquet: id or path, age, and optionally std, "
        "quantiles (q05 ...), probabilities of years (age_p_0 ...), gender, race; --columns names the "
        "columns of this file, --data.columns those of the dataset's table",
    )  # fmt: skip
    parser.add_argument(
        "--min_matched", type=fraction, default=MIN_MATCHED,
        help="with --predictions: smallest fraction of the test faces that must have one",
    )  # fmt: skip
    parser.add_argument(
        "--legal_ages", type=whole_number_from(1), nargs="+", default=LEGAL_AGES, metavar="AGE",
        help="ages in completed years at which decisions are evaluated "
        f"(default: {' '.join(map(str, LEGAL_AGES))})",
    )  # fmt: skip
    parser.add_argument(
        "--cell_ages", type=whole_number_from(0), nargs=2, default=CELL_AGES, metavar=("FIRST", "LAST"),
        help="ages of the mean over cells of sex and single age, as in NIST's evaluation "
        f"(default: {' '.join(map(str, CELL_AGES))})",
    )  # fmt: skip
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    first, last = options.cell_ages
    if first > last:
        raise ConfigError(f"--cell_ages {first} {last}: give the first age, then the last")
    if options.matrix is not None or options.on is not None:
        matrix(options, others)
        return
    if options.predictions is not None:
        score_predictions(options, others)
        return
    if options.ckpt_path is None:
        raise ConfigError("give --ckpt_path or --predictions: `mtmsa evaluate --help` lists the options")
    stress = () if options.stress is None else options.stress or NAMES
    if names_ensemble(options.ckpt_path):
        ensemble(options, others, stress)
        return
    others = data_arguments(options, others)
    check_arguments("test", ["--ckpt_path", options.ckpt_path[0], *others])

    from mtmsa_lightning.training.evaluating import evaluate

    evaluate(options.ckpt_path[0], others, options.out, options.faces, stress, report_options(options))


def report_options(options: argparse.Namespace) -> "ReportOptions":
    """Return what was chosen for the report."""
    from mtmsa_lightning.reports.report_options import ReportOptions

    first, last = options.cell_ages
    return ReportOptions(options.min_faces, options.paper, options.legal_ages, (first, last))


def ensemble(options: argparse.Namespace, others: Sequence[str], stress: Sequence[str]) -> None:
    """Test several networks as one mixture."""
    accelerator = options.accelerator or "auto"
    if options.devices is not None or options.precision is not None:
        raise ConfigError("--devices and --precision do not go with several networks: one process, 32-true")
    del options.accelerator
    allowed = option(others, "allow_overlap")
    arguments = data_arguments(options, without_options(others, ("allow_overlap",)))
    for checkpoint in network_files(options.ckpt_path):
        check_arguments("test", ["--ckpt_path", str(checkpoint), *arguments])

    from mtmsa_lightning.training.ensemble import evaluate_ensemble

    evaluate_ensemble(
        options.ckpt_path, arguments, options.out, options.faces, stress, accelerator,
        allow_overlap=boolean(allowed or "false"), options=report_options(options),
    )  # fmt: skip


def matrix(options: argparse.Namespace, others: Sequence[str]) -> None:
    """Test several checkpoints on several datasets."""
    if not options.matrix or not options.on:
        raise ConfigError("--matrix takes the checkpoints and --on the configs of the data: give both")
    alone = ("ckpt_path", "predictions", "stress", "config", "data", "root")
    if given := [name for name in alone if getattr(options, name)]:
        raise ConfigError(f"--{given[0]} does not go with --matrix: --matrix and --on name networks and data")
    defaults = vars(parser().parse_args([]))
    if given := [name for name in REPORT_OPTIONS if getattr(options, name) != defaults[name]]:
        raise ConfigError(
            f"--{given[0]} does not go with --matrix, which writes one table and no report for each test: "
            "evaluate the network by --ckpt_path"
        )
    arguments = data_arguments(options, others)
    if option(arguments, "wandb") is None:
        arguments.append("--wandb=disabled")
    for checkpoint in options.matrix:
        for config in options.on:
            check_arguments("test", [f"--ckpt_path={checkpoint}", f"--config={config}", *arguments])

    from mtmsa_lightning.training.matrix import evaluate_matrix

    evaluate_matrix(options.matrix, options.on, arguments, options.out or Path("runs", "matrix"))


def score_predictions(options: argparse.Namespace, others: Sequence[str]) -> None:
    """Write the report on predictions of another program."""
    if options.ckpt_path is not None:
        raise ConfigError("--predictions and --ckpt_path exclude each other: `mtmsa compare` compares both")
    if options.stress is not None:
        raise ConfigError("--stress needs --ckpt_path: changed photos must be estimated again")
    if not options.predictions.is_file():
        raise ConfigError(f"--predictions {options.predictions}: no such file")
    columns = column_names(options.columns or [])
    options.columns = None
    arguments = data_arguments(options, others, recognised=True)
    if not names_data(arguments):
        raise ConfigError(NO_DATA)

    from mtmsa_lightning.training.scoring import score

    chosen = options.faces, report_options(options)
    score(options.predictions, arguments, columns, options.min_matched, options.out, *chosen)
