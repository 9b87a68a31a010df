"""ONNX files in int8: the convolutions of the trunk, by ONNX Runtime's static quantisation."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning.export.network import INPUT


def quantise(full: Path, file: Path, faces: Tensor) -> None:
    """Write an ONNX file with its convolutions in int8, a scale per channel of weights.

    The ranges of activations are those of the faces, uint8, ``(N, 3, size, size)``.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    shaped = file.with_name(f"{file.stem}-shaped.onnx")
    quant_pre_process(full, shaped, skip_optimization=True, skip_symbolic_shape=True)
    quantize_static(
        shaped, file, _Reader(faces.numpy()), quant_format=QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=["Conv"], activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip


class _Reader:
    """Give faces to the quantiser, one at a time."""

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        self._faces = iter(faces[:, None])

    def get_next(self) -> dict[str, Any] | None:
        face = next(self._faces, None)
        return None if face is None else {INPUT: face}
