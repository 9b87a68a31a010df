"""Checks of leaks between parts in any fold of a protocol: subjects, copies, near-duplicates."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.audit.labels import describe_labels, rows_by
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.splits.split import PARTS, Split

MAY_SHARE_SUBJECTS = ("random", "setting_a", "s1_s2_s3")
"""Protocols that split by image, where subjects may be in several parts."""

FAR_YEARS = 5
"""Difference in years between the centres of labels above which near-duplicates get a warning."""

TRAIN, VAL, TEST, CALIBRATION = range(4)

Parts = NDArray[np.int8]
"""Part of every row in every fold, shape (folds, rows): an index of ``PARTS``, -1 for unused."""


def parts_of(splits: Mapping[int, Split], rows: int) -> Parts:
    """Return the part of every row in every fold."""
    parts = np.full((len(splits), rows), -1, np.int8)
    for fold, split in zip(parts, splits.values(), strict=True):
        for number, name in enumerate(PARTS):
            fold[getattr(split, name)] = number
    return parts


def shared_subjects(table: FaceTable, splits: Mapping[int, Split]) -> list[Finding]:
    """Find subjects that are in test and in another part (train, val or calibration) of one fold."""
    subjects = table.frame["subject"]
    groups = [rows for rows in rows_by(subjects[subjects != ""]).values() if len(rows) > 1]
    parts = parts_of(splits, len(table))
    shared = [rows for rows in groups if _tested_and_learnt(parts, rows).any()]
    protocols = {split.protocol for split in splits.values()}
    kind = "subject-shared" if protocols <= set(MAY_SHARE_SUBJECTS) else "subject-leak"
    examples = [f"{subjects[rows[0]]}: {len(rows)} pictures" for rows in shared]
    return found(kind, "subjects tested and learnt from in some fold", examples, shared)


def copies(table: FaceTable, contents: "pd.Series[str]", splits: Mapping[int, Split]) -> list[Finding]:
    """Find exact copies: in test and another part, in training and validation, or within a part.

    A group counts once, as the most severe of these in any fold.
    """
    parts = parts_of(splits, len(table))
    groups = [rows for rows in rows_by(contents[contents != ""]).values() if len(rows) > 1]
    kinds = [_copy_kind(parts, rows) for rows in groups]
    texts = {
        "copy-leak": "pictures tested and learnt from in some fold",
        "copy-validation": "pictures trained and validated or calibrated on in some fold",
        "copies": "other pictures that are repeated",
    }
    ids = table.frame["id"]
    findings = []
    for kind, text in texts.items():
        chosen = [rows for rows, its_kind in zip(groups, kinds, strict=True) if its_kind == kind]
        detail = f" ({pluralize(sum(map(len, chosen)), 'row')})"
        findings += found(kind, text, [" = ".join(ids[rows]) for rows in chosen], chosen, detail=detail)
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
    """Classify pairs of near-duplicates that are not exact copies.

    Args:
        table: The faces.
        pairs: First row, second row and distance of every pair, shape (pairs, 3), nearest first; a row
            represents all of its exact copies.
        contents: Content hash of every row.
        splits: The folds of the protocol.
        limit: Maximum distance of a pair in bits, for the text.
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
        ("near-copies", ~leaks, "that no fold separates into test and the rest"),
    ):
        examples = [
            f"{ids[left]} ({labels[left]}) ~ {ids[right]} ({labels[right]}), {pluralize(bits, 'bit')}"
            for left, right, bits in pairs[rows].tolist()
        ]
        near = f"pairs of near-duplicates (at most {limit} of 256 bits apart)"
        findings += found(kind, f"{near} {text}", examples, pairs[rows, :2])
    return findings


def _tested_and_learnt(parts: Parts, rows: Iterable[int]) -> NDArray[np.bool_]:
    """Return, for every fold, whether the rows are in test and in another part."""
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
    """Return which pairs differ in a known gender or race, or by more than ``FAR_YEARS``."""
    apart = np.zeros(len(pairs), bool)
    for column in ("gender", "race"):
        left, right = (faces[column].to_numpy()[pairs[:, side]] for side in (0, 1))
        apart |= (left >= 0) & (right >= 0) & (left != right)
    middle = ((faces["age_low"] + faces["age_high"]) / 2).to_numpy()
    years = np.abs(middle[pairs[:, 0]] - middle[pairs[:, 1]])
    return np.asarray(apart | (years > FAR_YEARS))
