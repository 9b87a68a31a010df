"""What stands on both sides of a split, in any fold of a protocol: subjects, copies, near-duplicates."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.audit.labels import describe_labels, rows_by
from mtmsa_lightning.data.splits.protocols import PARTS, Split
from mtmsa_lightning.data.table import FaceTable

MAY_SHARE_SUBJECTS = ("random", "setting_a", "s1_s2_s3")
"""Protocols that split by image: a subject on both sides is theirs, not a fault of the table."""

FAR_YEARS = 5
"""Near-duplicates that differ by more years than this, in the middle of their labels, are worth a warning."""

TRAIN, VAL, TEST, CALIBRATION = range(4)

Parts = NDArray[np.int8]
"""Part of every row in every fold, shape (folds, rows): an index in ``PARTS``, -1 not used."""


def parts_of(splits: Mapping[int, Split], rows: int) -> Parts:
    """Return which part every row has in every fold."""
    parts = np.full((len(splits), rows), -1, np.int8)
    for fold, split in zip(parts, splits.values(), strict=True):
        for number, name in enumerate(PARTS):
            fold[getattr(split, name)] = number
    return parts


def shared_subjects(table: FaceTable, splits: Mapping[int, Split]) -> list[Finding]:
    """Find subjects that are tested and learnt from (trained, validated or calibrated on) in one fold."""
    subjects = table.frame["subject"]
    groups = [rows for rows in rows_by(subjects[subjects != ""]).values() if len(rows) > 1]
    parts = parts_of(splits, len(table))
    shared = [rows for rows in groups if _tested_and_learnt(parts, rows).any()]
    protocols = {split.protocol for split in splits.values()}
    kind = "subject-shared" if protocols <= set(MAY_SHARE_SUBJECTS) else "subject-leak"
    examples = [f"{subjects[rows[0]]}: {len(rows)} pictures" for rows in shared]
    return found(kind, "subjects tested and learnt from in some fold", examples, shared)


def copies(table: FaceTable, contents: "pd.Series[str]", splits: Mapping[int, Split]) -> list[Finding]:
    """Find exact copies: tested and learnt from, trained and validated on, or within a part.

    A group counts once, as the gravest of these that it is in any fold. Rows that a release repeats (one
    file) are copies too.
    """
    parts = parts_of(splits, len(table))
    groups = [rows for rows in rows_by(contents[contents != ""]).values() if len(rows) > 1]
    by_kind: dict[str, list[list[int]]] = {"copy-leak": [], "copy-validation": [], "copies": []}
    for rows in groups:
        by_kind[_copy_kind(parts, rows)].append(rows)
    texts = {
        "copy-leak": "pictures tested and learnt from in some fold",
        "copy-validation": "pictures trained and validated or calibrated on in some fold",
        "copies": "other pictures that stand more than once",
    }
    ids = table.frame["id"]
    findings = []
    for kind, found_groups in by_kind.items():
        detail = f" ({pluralize(sum(map(len, found_groups)), 'row')})"
        examples = [" = ".join(ids[rows]) for rows in found_groups]
        findings += found(kind, texts[kind], examples, found_groups, detail=detail)
    return findings


def _copy_kind(parts: Parts, rows: Sequence[int]) -> str:
    if _tested_and_learnt(parts, rows).any():
        return "copy-leak"
    held = parts[:, rows]
    both = (held == TRAIN).any(axis=1) & ((held == VAL) | (held == CALIBRATION)).any(axis=1)
    return "copy-validation" if both.any() else "copies"


def near_duplicates(
    table: FaceTable,
    pairs: NDArray[np.int64],
    contents: "pd.Series[str]",
    splits: Mapping[int, Split],
    limit: int,
) -> list[Finding]:
    """Sort pairs of near-duplicates, exact copies left out, by what they mean.

    Args:
        table: The faces.
        pairs: First row, second row and distance of every pair, shape (pairs, 3), nearest first; a row stands
            for all of its exact copies, wherever they are.
        contents: Content hash of every row.
        splits: The folds of the protocol.
        limit: Greatest distance of a pair, in bits; it is named in the text.
    """
    content = contents.to_numpy(object)
    pairs = pairs[content[pairs[:, 0]] != content[pairs[:, 1]]]
    parts = parts_of(splits, len(table))
    tested, learnt = (_of_copies(marked, contents) for marked in (parts == TEST, _is_learnt(parts)))
    first, second = pairs[:, 0], pairs[:, 1]
    leaks = ((tested[:, first] & learnt[:, second]) | (learnt[:, first] & tested[:, second])).any(axis=0)
    conflicts = _labels_apart(table.frame, pairs)
    labels, ids = describe_labels(table), table.frame["id"]
    findings = []
    for kind, rows, text in (
        ("near-leak", leaks, "tested and learnt from in some fold"),
        ("near-conflict", conflicts, f"that differ in gender or race, or by over {FAR_YEARS} years"),
        ("near-copies", ~leaks, "that no fold parts into test and the rest"),
    ):
        examples = [
            f"{ids[left]} ({labels[left]}) ~ {ids[right]} ({labels[right]}), {pluralize(bits, 'bit')}"
            for left, right, bits in pairs[rows].tolist()
        ]
        near = f"pairs of near-duplicates (at most {limit} of 256 bits apart)"
        findings += found(kind, f"{near} {text}", examples, pairs[rows, :2])
    return findings


def _tested_and_learnt(parts: Parts, rows: Iterable[int]) -> NDArray[np.bool_]:
    """Tell for every fold whether some of the rows are tested and others learnt from."""
    held = parts[:, list(rows)]
    return np.asarray((held == TEST).any(axis=1) & _is_learnt(held).any(axis=1))


def _is_learnt(parts: Parts) -> NDArray[np.bool_]:
    return np.asarray((parts >= 0) & (parts != TEST))


def _of_copies(marked: NDArray[np.bool_], contents: "pd.Series[str]") -> NDArray[np.bool_]:
    """Mark, in every fold, all exact copies of the rows that are marked."""
    codes, distinct = pd.factorize(contents)
    spread = np.zeros((len(marked), len(distinct)), bool)
    folds, rows = np.nonzero(marked)
    spread[folds, codes[rows]] = True
    return spread[:, codes]


def _labels_apart(faces: pd.DataFrame, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which pairs differ in a known gender or race, or by more than ``FAR_YEARS``."""
    apart = np.zeros(len(pairs), bool)
    for column in ("gender", "race"):
        left, right = (faces[column].to_numpy()[pairs[:, side]] for side in (0, 1))
        apart |= (left >= 0) & (right >= 0) & (left != right)
    middle = ((faces["age_low"] + faces["age_high"]) / 2).to_numpy()
    years = np.abs(middle[pairs[:, 0]] - middle[pairs[:, 1]])
    return np.asarray(apart | (years > FAR_YEARS))
