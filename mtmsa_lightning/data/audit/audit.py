"""All checks of a dataset and its protocol."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.progress import progress
from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.align.detector import FaceDetector
from mtmsa_lightning.data.audit.counts import counts
from mtmsa_lightning.data.audit.findings import Finding, by_severity, found
from mtmsa_lightning.data.audit.images import Scan, check_images, scan_images
from mtmsa_lightning.data.audit.labels import check_labels, conflicting_copies
from mtmsa_lightning.data.audit.leaks import copies, near_duplicates, shared_subjects
from mtmsa_lightning.data.audit.near_duplicates import near_pairs
from mtmsa_lightning.data.audit.orientation import sideways_sample
from mtmsa_lightning.data.audit.published_counts import Comparison, compare
from mtmsa_lightning.data.audit.release_noise import check_release
from mtmsa_lightning.data.baselines import baselines_by_part
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.mixture.datamodule import Mixture
from mtmsa_lightning.data.prepared.format import skipped
from mtmsa_lightning.data.splits.split import Split, fold_numbers
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.settings.defaults import MIN_SHARPNESS, MIN_SIDE, NEAR

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of findings.

    Attributes:
        near: Maximum distance of near-duplicates in bits of 256.
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
        source: Name of the dataset; with ``synthetic-`` before its layout for drawn faces.
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

    source: str
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
    detect: FaceDetector | None = None,
    scan: Scan | None = None,
) -> Audit:
    """Audit a dataset with its protocol.

    Args:
        data: The dataset; its fold is reported, and all folds are searched for leaks.
        thresholds: Thresholds of findings.
        look: Scan the images; otherwise check table and split only.
        detect: Face detector, to find images without a face or on their side.
        scan: Scan of the images, if they were scanned before.

    Raises:
        DataError: If the dataset cannot be read, or the protocol has no such fold.
    """
    laps = [("", time.monotonic())]

    def lap(name: str) -> None:
        laps.append((name, time.monotonic()))

    table = read(data)
    lap("reading")
    splits, findings = all_splits(data, table)
    split = splits.get(data.fold)
    findings += check_table(data, table, splits)
    lap("splits and labels")
    if look and scan is None:
        with progress("images", table.frame["path"].nunique()) as advance:
            scan = scan_images(table, data.num_workers or 1, advance, detect)
        lap("images")
    if scan is not None:
        findings += check_pictures(table, scan, splits, thresholds)
        lap("duplicates")
    if look and detect is None:
        findings += sideways_sample(table)
        lap("orientation")
    return Audit(
        data.source,
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
        {name: end - start for (_, start), (name, end) in pairwise(laps)},
    )


def audit_sources(data: Mixture, joined: Audit) -> Iterator[Audit]:
    """Yield the audit of every source of a mixture, with the images as the joined audit scanned them."""
    start = 0
    for source in data.sources:
        rows = slice(start, start := start + len(source.table))
        scan = joined.scan and Scan(joined.scan.facts[rows].reset_index(drop=True), joined.scan.hashes[rows])
        yield audit(source, joined.thresholds, look=False, scan=scan)


def read(data: FaceDataModule) -> FaceTable:
    """Return the table of a DataModule, even if its protocol cannot be applied."""
    data.verify = False  # the scan finds unreadable images
    try:
        data.prepare_data()
    except DataError as error:
        log.debug("%s", error)  # `all_splits` reports an error of the split
    return data.table


def all_splits(data: FaceDataModule, table: FaceTable) -> tuple[dict[int, Split], list[Finding]]:
    """Return the split of every fold, or a finding if the protocol cannot be applied."""
    try:
        mixed = isinstance(data, Mixture)
        folds = (0,) if mixed else fold_numbers(table, data.protocol, data.seed)
        splits = {fold: data.split_of(fold) for fold in folds}
    except DataError as error:
        return {}, found("split", "protocols that cannot be applied", [str(error)])
    if data.fold not in splits:
        raise DataError(
            f"protocol {data.protocol!r} has no fold {data.fold}; its folds are [{shown(folds, 20)}]"
        )
    return splits, []


def check_table(data: FaceDataModule, table: FaceTable, splits: dict[int, Split]) -> list[Finding]:
    """Run the checks that need no images; for a mixture only those across its sources."""
    if isinstance(data, Mixture):
        contents = table.frame.get("content")
        return [] if contents is None else conflicting_copies(table, contents)
    dropped = table.report.reasons() + skipped(table.root)
    reasons = [f"{reason}: {count:,}" for reason, count in dropped.most_common()]
    differing = [
        f"{what}: {number:,} here, {published:,} published"
        for what, number, published, agrees in compare(table)
        if not agrees
    ]
    return [
        *check_labels(table),
        *check_release(table),
        *shared_subjects(table, splits),
        *found("release", "counts that differ from the published release", differing),
        *found("dropped", "rows skipped", reasons, count=dropped.total()),
    ]


def check_pictures(
    table: FaceTable, scan: Scan, splits: dict[int, Split], thresholds: Thresholds
) -> list[Finding]:
    """Run the checks on the scanned images."""
    contents = scan.facts["content"]
    rows = np.flatnonzero(scan.readable & ~contents.duplicated())  # the first of exact copies
    pairs = near_pairs(scan.hashes[rows], thresholds.near)
    pairs[:, :2] = rows[pairs[:, :2]]
    known = "content" in table.frame  # `check_table` has compared the labels of copies
    return [
        *([] if known else conflicting_copies(table, contents)),
        *copies(table, contents, splits),
        *near_duplicates(table, pairs, contents, splits, thresholds.near),
        *check_images(table, scan, thresholds.min_side, thresholds.min_sharpness),
    ]
