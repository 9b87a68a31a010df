"""Settings of ONNX Runtime before its import."""

import os


def silence_onnx_runtime() -> None:
    """Turn off its telemetry, which starts at the import."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
