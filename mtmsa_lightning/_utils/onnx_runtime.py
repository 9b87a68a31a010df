"""No telemetry of ONNX Runtime, which starts at its import; set before that.

From 1.32 on its Linux builds write a device id and events below ``~/.cache/Microsoft`` and send them.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
