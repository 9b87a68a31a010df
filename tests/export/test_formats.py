import pytest

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.export.formats import Format, Precision, check_combination


@pytest.mark.parametrize(
    ("form", "precision", "dynamic", "reason"),
    [
        (Format.TORCH_EXPORT, Precision.INT8, False, "ONNX Runtime's quantiser"),
        (Format.SAFETENSORS, Precision.INT8, False, "no 8-bit layers"),
        (
            Format.SAFETENSORS,
            Precision.FP32,
            True,
            "safetensors holds weights, which take batches of any size",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(form, precision, dynamic, reason):
    with pytest.raises(ConfigError, match=reason):
        check_combination(form, precision, dynamic)


@pytest.mark.parametrize("precision", list(Precision))
def test_onnx_takes_every_precision(precision):
    check_combination(Format.ONNX, precision, dynamic=True)
