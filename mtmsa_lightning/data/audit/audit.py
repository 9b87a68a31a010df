"""All checks of a dataset and its protocol."""

import logging
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning._utils.progress import progress
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.audit.counts import counts
from mtmsa_lightning.data.audit.findings import Finding, by_severity, found
from mtmsa_lightning.data.audit.images import MIN_SHARPNESS, MIN_SIDE, check_images
from mtmsa_lightning.data.audit.labels import check_labels, conflicting_copies
from mtmsa_lightning.data.audit.leaks import copies, near_duplicates, shared_subjects
from mtmsa_lightning.data.audit.near_duplicates import NEAR, near_pairs
from mtmsa_lightning.data.audit.published_counts import Comparison, compare
from mtmsa_lightning.data.audit.scan import Scan, scan_images
from mtmsa_lightning.data.baselines import baselines_by_part
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.prepared.format import skipped
from mtmsa_lightning.data.splits.protocols import Split, fold_numbers
from mtmsa_lightning.data.table import FaceTable
from mtmsa_lightning.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of findings.

    Attributes:
        near: Maximum distance of near-duplicates in bits of 256 (``near``).
        min_side: Minimum side of an image in pixels.
        min_sharpness: Minimum variance of the Laplacian (``scan.sharpness``).
    """

    near: int = NEAR
    min_side: int = MIN_SIDE
    min_sharpness: float = MIN_SHARPNESS


@dataclass(frozen=True, eq=False)
class Audit:
    """Result of an audit.

    Attributes:
        table: The faces.
        protocol: Name of the protocol.
        splits: The folds of the protocol by number; empty if it cannot be applied.
        split: The audited fold; None if the protocol cannot be applied.
        findings: The findings, most severe first.
        counted: Faces by class and part (``counts.counts``).
        baselines: Metrics of constant guesses, by part.
        comparisons: Counts and the published ones.
        scan: Result of scanning the images; None if they were not scanned.
        thresholds: Thresholds of findings.
        seconds: Duration of every step.
    """

    table: FaceTable
    protocol: str
    splits: dict[int, Split]
    split: Split | None
    findings: list[Finding]
    counted: dict[str, pd.DataFrame]
    baselines: dict[str, dict[str, float]]
    comparisons: list[Comparison]
    scan: Scan | None
    thresholds: Thresholds
    seconds: dict[str, float]


def audit(
    data: FaceDataModule,
    thresholds: Thresholds = Thresholds(),  # frozen
    look: bool = True,
    detect: Callable[[Image], Sized] | None = None,
) -> Audit:
    """Audit a dataset with its protocol.

    Args:
        data: The dataset; its fold is reported, and all folds are searched for leaks.
        thresholds: Thresholds of findings.
        look: Scan the images; otherwise check table and split only.
        detect: Returns the faces of an image, to find images without any.

    Raises:
        DataError: If the dataset cannot be read, or the protocol has no such fold.
    """
    clock = _Clock()
    table = read(data)
    clock.lap("reading")
    splits, findings = all_splits(data, table)
    split = splits.get(data.fold)
    findings += check_table(data, table, splits)
    clock.lap("splits and labels")
    scan = None
    if look:
        with progress("images", table.frame["path"].nunique()) as advance:
            scan = scan_images(table, data.num_workers or 1, advance, detect)
        clock.lap("images")
        findings += check_pictures(table, scan, splits, thresholds)
        clock.lap("duplicates")
    return Audit(
        table,
        data.protocol,
        splits,
        split,
        by_severity(findings),
        counts(table, split),
        {} if split is None else dict(baselines_by_part(table.frame, split, data.age_groups)),
        compare(table),
        scan,
        thresholds,
        clock.seconds,
    )


def read(data: FaceDataModule) -> FaceTable:
    """Return the table of a DataModule, even if its protocol cannot be applied.

    Raises:
        DataError: If the dataset cannot be read.
    """
    data.verify = False  # the scan finds unreadable images
    try:
        data.prepare_data()
    except DataError as error:
        log.debug("%s", error)  # `all_splits` reports an error of the split
    return data.table


def all_splits(data: FaceDataModule, table: FaceTable) -> tuple[dict[int, Split], list[Finding]]:
    """Return the split of every fold, or a finding if the protocol cannot be applied.

    Raises:
        DataError: If the protocol has no fold ``data.fold``.
    """
    try:
        folds = fold_numbers(table, data.protocol, data.seed)
        splits = {fold: data.split_of(fold) for fold in folds}
    except DataError as error:
        return {}, found("split", "protocols that cannot be applied", [str(error)])
    if data.fold not in splits:
        raise DataError(
            f"protocol {data.protocol!r} has no fold {data.fold}; its folds are [{shown(folds, 20)}]"
        )
    return splits, []


def check_table(data: FaceDataModule, table: FaceTable, splits: dict[int, Split]) -> list[Finding]:
    """Run the checks that need no images."""
    dropped = table.report.reasons() + skipped(table.root)
    reasons = [f"{reason}: {count:,}" for reason, count in dropped.most_common()]
    differing = [
        f"{what}: {number:,} here, {published:,} published"
        for what, number, published, agrees in compare(table)
        if not agrees
    ]
    return [
        *check_labels(table),
        *shared_subjects(table, splits),
        *found("release", "counts that differ from the published release", differing),
        *found("dropped", "rows skipped", reasons, count=dropped.total()),
    ]


def check_pictures(
    table: FaceTable, scan: Scan, splits: dict[int, Split], thresholds: Thresholds
) -> list[Finding]:
    """Run the checks on the scanned images."""
    contents = scan.facts["content"]
    pairs = distinct_pairs(scan, thresholds.near)
    known = "content" in table.frame  # `check_table` has compared the labels of copies
    return [
        *([] if known else conflicting_copies(table, contents)),
        *copies(table, contents, splits),
        *near_duplicates(table, pairs, contents, splits, thresholds.near),
        *check_images(table, scan, thresholds.min_side, thresholds.min_sharpness),
    ]


def distinct_pairs(scan: Scan, limit: int) -> NDArray[np.int64]:
    """Return the near pairs of readable images (``near.near_pairs``), with the first row of exact copies."""
    rows = np.flatnonzero(scan.readable & ~scan.facts["content"].duplicated())
    pairs = near_pairs(scan.hashes[rows], limit)
    pairs[:, :2] = rows[pairs[:, :2]]
    return pairs


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now
