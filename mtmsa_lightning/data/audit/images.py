"""Checks of images: unreadable, tiny, blurred, or without a face."""

import pandas as pd

from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.audit.scan import SHARPNESS_SIDE, Scan
from mtmsa_lightning.data.table import FaceTable

MIN_SIDE = 64
"""Minimum side in pixels: the smallest input of the network."""

MIN_SHARPNESS = 10.0
"""Minimum variance of the Laplacian (``scan.sharpness``); about 0.4 % of UTKFace lie below."""


def check_images(
    table: FaceTable, scan: Scan, min_side: int = MIN_SIDE, min_sharpness: float = MIN_SHARPNESS
) -> list[Finding]:
    """Run all checks of this module."""
    return [
        *unreadable(scan),
        *tiny(table, scan, min_side),
        *blurred(table, scan, min_sharpness),
        *faceless(table, scan),
    ]


def unreadable(scan: Scan) -> list[Finding]:
    """Find files that cannot be decoded."""
    return found("unreadable", "images that cannot be decoded", scan.facts["error"][~scan.readable].tolist())


def tiny(table: FaceTable, scan: Scan, min_side: int) -> list[Finding]:
    """Find images whose shorter side is below ``min_side`` pixels, smallest first."""
    side = scan.facts[["width", "height"]].min(axis=1)
    rows = side[scan.readable & (side < min_side)].sort_values(kind="stable").index
    sizes = [f"{scan.facts['width'][row]} x {scan.facts['height'][row]}" for row in rows]
    return _single("tiny", f"images smaller than {min_side} px", table, rows, sizes)


def blurred(table: FaceTable, scan: Scan, min_sharpness: float) -> list[Finding]:
    """Find images whose sharpness (``scan.sharpness``) is below ``min_sharpness``, least sharp first."""
    value = scan.facts["sharpness"]
    rows = value[value < min_sharpness].sort_values(kind="stable").index
    text = f"images with a variance of the Laplacian below {min_sharpness:g} at {SHARPNESS_SIDE} px"
    return _single("blurred", text, table, rows, [f"{value[row]:.1f}" for row in rows])


def faceless(table: FaceTable, scan: Scan) -> list[Finding]:
    """Find images without a face, by the scan's detector or the record of a prepared set."""
    faces = scan.facts["faces"]
    if (faces < 0).all():
        faces = table.frame.get("faces_found", faces)
    rows = table.frame.index[faces == 0]
    return _single("faceless", "images without a detected face", table, rows, [""] * len(rows))


def _single(kind: str, what: str, table: FaceTable, rows: pd.Index, details: list[str]) -> list[Finding]:
    ids = table.frame["id"][rows]
    examples = [f"{name}: {detail}".strip(": ") for name, detail in zip(ids, details, strict=True)]
    return found(kind, what, examples, ([row] for row in rows))
