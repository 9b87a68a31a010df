"""A few images of a dataset, searched for faces on their side, as of photos that lost their orientation."""

import logging

import numpy as np

from mtmsa_lightning._utils.images import UnreadableImageError, read_reduced
from mtmsa_lightning.align.box import box_rows, crop_box
from mtmsa_lightning.align.detector import load_detector
from mtmsa_lightning.align.search import MIN_SCORE
from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.prepared.format import is_prepared, is_synthetic
from mtmsa_lightning.errors import ConfigError

log = logging.getLogger(__name__)

SAMPLE = 8
"""Number of images, spread evenly over the dataset: about a second."""

_LEAST = 2  # images on their side: one may be an exception


def sideways_sample(table: FaceTable) -> list[Finding]:
    """Find a dataset with images on their side: at least two of the sample, and half of those with a face.

    Prepared sets, whose faces were turned upright, and drawn faces are not searched. Nothing is found without
    the extra ``align``.
    """
    if is_prepared(table.root) or is_synthetic(table.root):
        return []
    try:
        search = load_detector(crowds=False)
    except ConfigError as error:
        log.debug("images are not searched for faces on their side: %s", error)
        return []
    rows = np.unique(np.linspace(0, len(table) - 1, SAMPLE).astype(int)).tolist()
    turned: dict[int, int] = {}
    faces = 0
    for row, box in zip(rows, box_rows(table.frame.iloc[rows]), strict=True):
        try:
            image, factor = read_reduced(table.root / table.frame["path"].iloc[row])
        except UnreadableImageError:
            continue
        quarters, seen = search.orientation(image if box is None else crop_box(image, box, factor=factor))
        faces += any(face.score > MIN_SCORE for face in seen)
        turned |= {row: (4 - quarters) * 90} if quarters else {}
    if len(turned) < _LEAST or 2 * len(turned) < faces:
        return []
    ids = table.frame["id"]
    examples = [f"{ids.iloc[row]}: upright after {turned[row]} degrees clockwise" for row in turned]
    detail = f" of {len(rows)} that were looked at"
    what = "images on their side or upside down"
    return found("sideways", what, examples, ([row] for row in turned), detail=detail)
