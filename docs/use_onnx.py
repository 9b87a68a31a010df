"""Ages of cropped faces by an exported ONNX file: python use_onnx.py best.onnx face.jpg ...

Needs onnxruntime, numpy and opencv-python-headless, and nothing of mtmsa-lightning or torch.
"""

import json
import sys

import cv2
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
size, crop = about["input"]["image_size"], about["input"]["crop"]
names = [output.name for output in session.get_outputs()]
for path in sys.argv[2:]:
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    side = round(min(image.shape[:2]) * crop)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    way = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    face = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=way)
    said = dict(zip(names, session.run(None, {"images": face.transpose(2, 0, 1)[None]}), strict=True))
    print(path, json.dumps({name: values[0].tolist() for name, values in said.items()}))
