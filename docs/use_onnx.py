"""Predict cropped faces with an exported ONNX file: python use_onnx.py best.onnx face.jpg ...

Requires onnxruntime and opencv-python-headless, but neither mtmsa-lightning nor torch. The metadata of the
file describe how to crop faces: about["input"]["how"].
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which starts it

import cv2
import onnxruntime

if len(sys.argv) < 3:
    sys.exit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
size, crop = about["input"]["image_size"], about["input"]["crop"]
for path in sys.argv[2:]:
    data = b"" if (image := cv2.imread(path, cv2.IMREAD_COLOR_RGB)) is None else Path(path).read_bytes()
    if not data or (data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")):
        sys.exit(f"{path}: not an image, or a truncated JPEG")
    side = round(min(image.shape[:2]) * crop)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    face = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=method)
    outputs = session.run(None, {"images": face.transpose(2, 0, 1)[None]})
    result = dict(zip(about["outputs"], (values[0].tolist() for values in outputs), strict=True))
    result |= {name: dict(zip(of, result[name], strict=True)) for name, of in about["classes"].items()}
    print(path, json.dumps(result | {key: of[result[key]] for key, of in about.get("decisions", {}).items()}))
