"""What is said to ONNX Runtime before it is imported, wherever that is."""

import os


def silence_onnx_runtime() -> None:
    """Keep it from reporting to its makers, which it does as soon as it is imported."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
