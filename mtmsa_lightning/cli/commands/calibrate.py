"""``mtmsa calibrate``: fit the uncertainty of a checkpoint on held-out faces and store it there."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mtmsa_lightning._utils.folders import check_folder, locked
from mtmsa_lightning.cli.arguments import (
    Parser,
    add_boolean,
    add_checkpoint,
    add_several,
    open_fraction,
    positive_number,
    whole_number_from,
)
from mtmsa_lightning.cli.data_arguments import add_data_arguments, data_arguments
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.checkpoints import is_ensemble
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.ensemble_folder import check_target, names_ensemble, network_files
from mtmsa_lightning.runs.starter import refuse_change
from mtmsa_lightning.settings.defaults import CONFIDENCE_LEVEL, MAX_FPR, NEAR_YEARS
from mtmsa_lightning.training.early_checks import check_arguments

if TYPE_CHECKING:
    from mtmsa_lightning.calibration.policy import AgePolicy


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa calibrate",
        description="Fit a scale of sigma, temperatures of the class heads and conformal intervals of age on "
        "held-out faces, and store them in the checkpoint; its weights do not change. `mtmsa test`, "
        "`mtmsa evaluate` and `mtmsa predict` then apply them. Uses one process. The calibration of several "
        "checkpoints as one is stored in a folder, --out, which --ckpt_path then takes.",
        epilog="The data is that of the (first) checkpoint's run, or of --config or --data. Coverage and "
        "--max_fpr hold for new subjects who are exchangeable with those fitted on.",
    )
    add_checkpoint(parser)
    add_several(parser)
    add_data_arguments(parser)
    parser.add_argument(
        "--part", choices=("calibration", "val"),
        help="part to fit on (default: calibration; if it is empty, val, which also chose the checkpoint)",
    )  # fmt: skip
    parser.add_argument(
        "--max_width", type=positive_number, metavar="YEARS",
        help="mark a face as unsure if its 90 %% interval is wider than this",
    )  # fmt: skip
    parser.add_argument(
        "--min_group_prob", type=open_fraction, metavar="P",
        help="mark a face as unsure if its most probable age group is less probable than this",
    )  # fmt: skip
    add_policy(parser)
    add_boolean(parser, "--other_data", "allow another dataset than the checkpoint was trained on")
    add_boolean(
        parser, "--flip_test", "average over each face and its mirror image, here and in later uses", None,
        "as recorded in the checkpoint",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the calibrated checkpoint here instead of in "
        "place; of several, the folder of the ensemble")  # fmt: skip
    add_boolean(parser, "--undo", "remove the calibration instead of fitting one")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--precision", help="Lightning's precision (default: as in `mtmsa test`)")
    return parser


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add the options of decisions at legal ages; None where they are not given."""
    parser.add_argument(
        "--legal_age", type=whole_number_from(1), nargs="+", metavar="AGE",
        help="decide for each face whether it is of an age, in completed years: predictions get a column "
        "over_AGE with yes, no or unsure",
    )  # fmt: skip
    parser.add_argument(
        "--max_fpr", type=open_fraction, metavar="RATE",
        help=f"largest rate of minors who get a yes, and of adults who get a no (default: {MAX_FPR:g})",
    )  # fmt: skip
    parser.add_argument(
        "--near_years", type=whole_number_from(1), metavar="YEARS",
        help=f"minors and adults are those of up to so many years below or above (default: {NEAR_YEARS})",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", type=open_fraction, metavar="P",
        help=f"probability with which the rates hold (default: {CONFIDENCE_LEVEL:g})",
    )  # fmt: skip
    average = "let the rates hold on average instead, which needs a third of the faces"
    add_boolean(parser, "--on_average", average, None, "false")
    parser.add_argument(
        "--decide_by", choices=("estimate", "probability"),
        help="compare the estimated age with a challenge age, or P(age >= AGE) with a probability "
        "(default: estimate)",
    )  # fmt: skip


def policies_of(options: argparse.Namespace) -> "list[AgePolicy]":
    """Return the unfitted policies of the options; ConfigError if there are options without a legal age."""
    given = {
        "max_fpr": options.max_fpr, "near_years": options.near_years, "confidence": options.confidence,
        "on_average": options.on_average, "decide_by": options.decide_by,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if given and not options.legal_age:
        raise ConfigError(f"--{next(iter(given))} is of no use without --legal_age, such as --legal_age 18")
    if given.pop("on_average", False):
        if "confidence" in given:
            raise ConfigError("--confidence and --on_average true exclude each other: give one of them")
        given["confidence"] = None
    if "decide_by" in given:
        given["by"] = given.pop("decide_by")

    from mtmsa_lightning.calibration.policy import AgePolicy

    return [AgePolicy(age, **given) for age in sorted(set(options.legal_age or ()))]


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    accelerator, precision = options.accelerator, options.precision
    del options.accelerator, options.precision  # not settings of a Trainer here
    data_args = data_arguments(options, others)
    files = network_files(options.ckpt_path)
    for file in files:
        check_arguments("test", ["--ckpt_path", str(file), *data_args])
    policies = policies_of(options)
    folder: Path | None
    if names_ensemble(options.ckpt_path):
        folder = _folder_of_ensemble(options)
    else:
        target = options.out or files[0]
        refuse_change(target)
        check_folder(target.parent)
        folder = run_of(target)
    with locked(folder, "mtmsa calibrate") if folder else nullcontext():  # a fit might replace a checkpoint
        from mtmsa_lightning.training.calibrating import calibrate, undo

        if options.undo:
            undo(options.ckpt_path, options.out)
            return
        calibrate(
            options.ckpt_path, data_args, options.part, options.max_width, options.min_group_prob,
            options.other_data, options.out, accelerator, precision, options.flip_test, policies,
        )  # fmt: skip


def _folder_of_ensemble(options: argparse.Namespace) -> Path:
    """Return the folder to write an ensemble to, after checks."""
    first = Path(options.ckpt_path[0])
    folder: Path | None = options.out or (first if is_ensemble(first) else None)
    if folder is None:
        raise ConfigError(
            "several checkpoints have no file for their common calibration: name a folder, such as --out "
            "runs/ensemble"
        )
    check_target(folder)
    check_folder(folder)
    return folder
