"""``mtmsa calibrate``: fit the uncertainty of a checkpoint on held-out faces and store it there."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mtmsa_lightning._utils.folders import check_folder, locked
from mtmsa_lightning.cli.arguments import Parser, add_boolean, add_checkpoint, real_number
from mtmsa_lightning.cli.data_arguments import add_data_arguments, data_arguments
from mtmsa_lightning.runs.checkpoints import find_checkpoint
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.starter import refuse_change
from mtmsa_lightning.training.early_checks import check_arguments


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa calibrate",
        description="Fit a scale of sigma, temperatures of the class heads and conformal intervals of age on "
        "held-out faces, and store them in the checkpoint; its weights do not change. `mtmsa test`, "
        "`mtmsa evaluate` and `mtmsa predict` then apply them. Uses one process.",
        epilog="The data is that of the checkpoint's run, or of --config or --data. Coverage holds for new "
        "subjects who are exchangeable with those fitted on.",
    )
    add_checkpoint(parser)
    add_data_arguments(parser)
    parser.add_argument(
        "--part", choices=("calibration", "val"),
        help="part to fit on (default: calibration; if it is empty, val, which also chose the checkpoint)",
    )  # fmt: skip
    parser.add_argument(
        "--max_width", type=real_number, metavar="YEARS",
        help="mark a face as unsure if its 90 %% interval is wider than this",
    )  # fmt: skip
    parser.add_argument(
        "--min_group_prob", type=real_number, metavar="P",
        help="mark a face as unsure if its most probable age group is less probable than this",
    )  # fmt: skip
    add_boolean(parser, "--other_data", "allow another dataset than the checkpoint was trained on")
    add_boolean(
        parser, "--flip_test", "average over each face and its mirror image, here and in later uses", None,
        "as recorded in the checkpoint",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the calibrated checkpoint here instead of in place")
    add_boolean(parser, "--undo", "remove the calibration instead of fitting one")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--precision", help="Lightning's precision (default: as in `mtmsa test`)")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    accelerator, precision = options.accelerator, options.precision
    del options.accelerator, options.precision  # not settings of a Trainer here
    data_args = data_arguments(options, others)
    check_arguments("test", ["--ckpt_path", options.ckpt_path, *data_args])

    target = options.out or find_checkpoint(Path(options.ckpt_path))
    refuse_change(target)
    check_folder(target.parent)
    run = run_of(target)
    with locked(run, "mtmsa calibrate") if run else nullcontext():  # a fit might replace the checkpoint
        from mtmsa_lightning.training.calibrating import calibrate, store

        if options.undo:
            store(options.ckpt_path, None, options.out)
            return
        calibrate(
            options.ckpt_path, data_args, options.part, options.max_width, options.min_group_prob,
            options.other_data, options.out, accelerator, precision, options.flip_test,
        )  # fmt: skip
