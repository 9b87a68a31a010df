"""``mtmsa calibrate``: the uncertainty of a checkpoint, fitted on held-out faces and stored in it."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mtmsa_lightning._utils.folders import check_folder, locked
from mtmsa_lightning.cli.arguments import Parser, add_checkpoint, real_number
from mtmsa_lightning.runs.checkpoints import find_checkpoint
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.training.preflight import check_arguments


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa calibrate",
        description="Fit a scale of sigma, temperatures of the class heads and conformal intervals of age on "
        "faces that were held out, and store them in the checkpoint, whose weights stay as they are. "
        "`mtmsa test` and `mtmsa predict` then apply them. One process.",
        epilog="The data is that of the checkpoint's own run, or of --config; single settings are given as "
        "`--data.fold 2`. Coverage holds for new subjects who are exchangeable with those fitted on.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--config", action="append", default=[], help="config whose data section says what data"
    )
    parser.add_argument(
        "--part", choices=("calibration", "val"),
        help="part to fit on (default: calibration; without one, val, which also chose the checkpoint)",
    )  # fmt: skip
    parser.add_argument(
        "--max_width", type=real_number, metavar="YEARS",
        help="declare a face unsure whose 90 %% interval is wider than this",
    )  # fmt: skip
    parser.add_argument(
        "--min_group_prob", type=real_number, metavar="P",
        help="declare a face unsure whose likeliest age group is less likely than this",
    )  # fmt: skip
    parser.add_argument(
        "--other_data", action="store_true", help="allow another dataset than the checkpoint was trained on"
    )
    parser.add_argument(
        "--flip_test", choices=("true", "false"),
        help="average over each face and its mirror image, here and whenever the checkpoint is used from now "
        "on (default: as the checkpoint says)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the calibrated checkpoint here instead of in place")
    parser.add_argument("--undo", action="store_true", help="remove the calibration instead of fitting one")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, ... (default: auto)")
    parser.add_argument("--precision", help="Lightning precision (default: as in `mtmsa test`)")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: If the checkpoint, the data or a threshold is of no use.
    """
    options, data_args = parser().parse_known_args(args)
    data_args = [*(f"--config={name}" for name in options.config), *data_args]
    check_arguments("test", ["--ckpt_path", options.ckpt_path, *data_args])

    target = options.out or find_checkpoint(Path(options.ckpt_path))
    check_folder(target.parent)
    run = run_of(target)
    with locked(run, "mtmsa calibrate") if run else nullcontext():  # a fit might replace the checkpoint
        _calibrate(options, data_args)


def _calibrate(options: argparse.Namespace, data_args: Sequence[str]) -> None:
    from mtmsa_lightning.training.calibrating import calibrate, store

    if options.undo:
        store(options.ckpt_path, None, options.out)
        return
    calibrate(
        options.ckpt_path, data_args, options.part, options.max_width, options.min_group_prob,
        options.other_data, options.out, options.accelerator, options.precision,
        None if options.flip_test is None else options.flip_test == "true",
    )  # fmt: skip
