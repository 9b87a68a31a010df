"""Formats and precisions, and which of them go together; imports nothing heavy."""

from enum import StrEnum

from mtmsa_lightning.errors import ConfigError


class Format(StrEnum):
    """File formats by their names on the command line."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    SAFETENSORS = "safetensors"


class Precision(StrEnum):
    """What the trunk computes in; the last layers and what follows them are float32 or better in all."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


ENDINGS = {Format.ONNX: ".onnx", Format.TORCH_EXPORT: ".pt2", Format.SAFETENSORS: ""}
"""Endings of the files; safetensors is a folder, which holds the weights, their config and a card."""

SENSELESS = {
    (Format.TORCH_EXPORT, Precision.INT8): "int8 is made by ONNX Runtime's quantiser: use --format onnx",
    (Format.SAFETENSORS, Precision.FP16): "safetensors holds the weights for this package, in the precision "
    "that they were trained in; what computes them is chosen on loading: use --format onnx or torch-export",
    (Format.SAFETENSORS, Precision.INT8): "safetensors holds the weights for this package, which has no "
    "8-bit layers: use --format onnx",
}
"""Combinations that are refused, with the reason."""


def check_combination(form: Format, precision: Precision, dynamic: bool) -> None:
    """Refuse what makes no sense.

    Raises:
        ConfigError: With the reason, and what to do instead.
    """
    if reason := SENSELESS.get((form, precision)):
        raise ConfigError(f"--format {form} --precision {precision}: {reason}")
    if dynamic and form is Format.SAFETENSORS:
        raise ConfigError(
            "--dynamic: safetensors holds weights and no program; they take batches of any size anyway"
        )
