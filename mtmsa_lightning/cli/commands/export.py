"""``mtmsa export``: write a checkpoint as a file that other programs run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.cli.arguments import Parser, add_boolean, add_checkpoint, add_several, one_of
from mtmsa_lightning.export.formats import Format, Precision, check_combination, check_packages, check_target
from mtmsa_lightning.runs.checkpoints import check_checkpoint
from mtmsa_lightning.runs.ensemble_folder import network_files


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa export",
        description="Write a checkpoint as a file that other programs run, with its model card. Its input is "
        "faces as RGB bytes, its output years and probabilities, calibrated if the checkpoint is. The file "
        "is compared with PyTorch on faces, and removed if its output differs.",
        epilog="Preprocessing, class names, calibration and licence are inside the file. docs/use_onnx.py "
        "uses an ONNX file without this package.",
    )
    add_checkpoint(parser)
    add_several(parser)
    parser.add_argument(
        "--format", required=True, type=one_of(Format), metavar=f"{{{','.join(Format)}}}",
        help="what to write: a program that ONNX Runtime or PyTorch runs without this package, or weights "
        "and their config for this package",
    )  # fmt: skip
    dynamic = "onnx, torch-export: take batches of any size instead of one face at a time"
    add_boolean(parser, "--dynamic", dynamic)
    parser.add_argument(
        "--precision", type=one_of(Precision), metavar=f"{{{','.join(Precision)}}}", default=Precision.FP32,
        help="precision of the convolutions: fp32, fp16 (safetensors: how weights are stored), int8 (onnx)",
    )  # fmt: skip
    parser.add_argument(
        "--images", nargs="+", type=Path, default=[], metavar="PATH",
        help="images and folders of faces, cropped as in training, for the comparison (default: synthetic "
        "faces; for int8, whose ranges come from faces, the validation part of the checkpoint's run)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path,
        help="file (.onnx, .pt2) or folder (safetensors) to write; replaces an older export (default: "
        "<run>/export/...)",
    )  # fmt: skip
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    check_combination(options.format, options.precision, options.dynamic)
    check_packages(options.format)
    for path in network_files(options.ckpt_path):
        check_checkpoint(path)
    if options.out is not None:
        check_target(options.out, options.format)

    from mtmsa_lightning.export.exporting import export

    target = export(
        options.ckpt_path,
        options.format,
        options.precision,
        options.dynamic,
        options.images,
        options.out,
    )
    files = [target] if target.is_file() else list(target.iterdir())
    print(f"{target} ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)")
