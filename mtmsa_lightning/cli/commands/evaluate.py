"""``mtmsa evaluate``: test a checkpoint and write a report beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.cli.arguments import Parser, add_checkpoint
from mtmsa_lightning.training.preflight import check_arguments


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa evaluate",
        usage="mtmsa evaluate --ckpt_path C [--config X] [--out DIR] [--faces false] [--KEY VALUE ...]",
        description="Test a checkpoint and write a report: one HTML page, plots (SVG, PNG), tables (CSV) "
        "and per-image predictions. The checkpoint's own run says which data; --config and --data.KEY "
        "choose other data. All arguments of `mtmsa test` may be given.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: <run>/evaluation, for other data "
        "<run>/evaluation-<dataset>-<protocol>-fold<k>)",
    )  # fmt: skip
    parser.add_argument(
        "--faces", choices=("true", "false"), default="true",
        help="show photos in the page: the best, worst and most uncertain, and attention (default: true)",
    )  # fmt: skip
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: For whatever the user can mend, before any work.
    """
    options, others = parser().parse_known_args(args)
    check_arguments("test", ["--ckpt_path", options.ckpt_path, *others])

    from mtmsa_lightning.training.evaluating import evaluate

    evaluate(options.ckpt_path, others, options.out, faces=options.faces == "true")
