"""Formats and precisions, their combinations and requirements, without heavy imports."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from mtmsa_lightning._utils.text import install
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.pretrained import FILES, README, is_pretrained


class Format(StrEnum):
    """File formats by their names on the command line."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    SAFETENSORS = "safetensors"


class Precision(StrEnum):
    """Precision of the trunk; heads and later computations are float32 or better in all.

    In the folder of safetensors, fp16 is how weights are stored; all is computed in float32.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


ENDINGS = {Format.ONNX: ".onnx", Format.TORCH_EXPORT: ".pt2", Format.SAFETENSORS: ""}
"""Suffixes of the files; safetensors is a folder with weights, config and card."""

REFUSED = {
    (Format.TORCH_EXPORT, Precision.INT8): "int8 is made by ONNX Runtime's quantiser: use --format onnx",
    (Format.SAFETENSORS, Precision.INT8): "safetensors holds the weights for this package, which has no "
    "8-bit layers: use --format onnx",
}
"""Refused combinations, with the reason."""


def check_combination(form: Format, precision: Precision, dynamic: bool) -> None:
    """Raise ConfigError if format, precision and batches cannot be combined."""
    if reason := REFUSED.get((form, precision)):
        raise ConfigError(f"--format {form} --precision {precision}: {reason}")
    if dynamic and form is Format.SAFETENSORS:
        raise ConfigError(
            "--format safetensors --dynamic true: safetensors holds weights, which take batches of any size: "
            "leave --dynamic out"
        )


def check_packages(form: Format) -> None:
    """Raise ConfigError if a package for ONNX is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if form is Format.ONNX and missing:
        raise ConfigError(f"--format onnx needs {', '.join(missing)}: {install('export')}")


def check_target(target: Path, form: Format) -> None:
    """Raise ConfigError if a target has not the suffix of its format or is something else."""
    if form is Format.SAFETENSORS:
        names = {file.name for file in target.iterdir()} if target.is_dir() else set()
        older = names <= {*FILES, README} and is_pretrained(target)
        if target.exists() and not (target.is_dir() and (older or not names)):
            raise ConfigError(f"--out {target}: there is something else: choose another folder")
    elif target.is_dir():
        raise ConfigError(f"--out {target}: a folder is there: name a file, e.g. best{ENDINGS[form]} in it")
    elif target.suffix != ENDINGS[form]:
        raise ConfigError(f"--out {target}: a file of --format {form} ends in {ENDINGS[form]}")
