"""``mtmsa evaluate``: test a checkpoint and write a report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.cli.arguments import Parser, add_boolean, add_checkpoint
from mtmsa_lightning.cli.data_arguments import add_data_arguments, add_trainer_arguments, data_arguments
from mtmsa_lightning.training.early_checks import check_arguments


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa evaluate",
        usage="mtmsa evaluate --ckpt_path C [--config X] [--out DIR] [--faces false] [--KEY VALUE ...]",
        description="Test a checkpoint and write a report: one HTML page, plots (SVG, PNG), tables (CSV) and "
        "per-image predictions. The data is that of the checkpoint's run, or of --config or --data. All "
        "arguments of `mtmsa test` may be given.",
    )
    add_checkpoint(parser)
    add_data_arguments(parser)
    add_trainer_arguments(parser)
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: <run>/evaluation, for other data "
        "<run>/evaluation-<dataset>-<protocol>-fold<k>)",
    )  # fmt: skip
    faces = "show photos in the page: best, worst and most uncertain faces, attention"
    add_boolean(parser, "--faces", faces, default=True)
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    others = data_arguments(options, others)
    check_arguments("test", ["--ckpt_path", options.ckpt_path, *others])

    from mtmsa_lightning.training.evaluating import evaluate

    evaluate(options.ckpt_path, others, options.out, faces=options.faces)
