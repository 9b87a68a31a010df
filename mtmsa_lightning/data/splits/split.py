"""Splits of a face table into training, validation, test and calibration parts, by a protocol."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.text import pluralize, shown
from mtmsa_lightning.data.face_table import SPLITS, FaceTable
from mtmsa_lightning.data.release_files import hash_lines, nearest
from mtmsa_lightning.data.splits.protocols import (
    PROTOCOLS,
    Partition,
    Positions,
    images_before,
    sampling_units,
)
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import GENDERS, RACES, class_key
from mtmsa_lightning.settings.defaults import VAL_FRACTION

PARTS: tuple[str, ...] = (*SPLITS, "calibration")
"""The parts of a split; the calibration part is optional."""


@dataclass(frozen=True, eq=False)
class Split:
    """One fold of a protocol: the rows of the table in each part.

    Attributes:
        protocol: Name of the protocol.
        fold: Number of the test fold.
        seed: Seed of the random draws.
        train: Sorted row positions; likewise ``val``, ``test`` and ``calibration``.
        fingerprints: SHA-256 (hexadecimal) of the sorted ids of every part, of the sorted ids with labels of
            all parts (``labels``) and, for a cleaned table, of its rules with versions (``cleaning``).
        subjects_in_two_parts: Fraction of the test images whose subject is also in the training or validation
            part; NaN if no subject is known.
        notes: Remarks on this split for readers of the results.
    """

    protocol: str
    fold: int
    seed: int
    train: Positions
    val: Positions
    test: Positions
    calibration: Positions
    fingerprints: dict[str, str]
    subjects_in_two_parts: float
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Describe the split in a few lines: sizes, fingerprints, overlap of subjects, notes."""
        sizes = ", ".join(
            f"{part} {len(getattr(self, part)):,} [{self.fingerprints[part][:12]}]"
            for part in PARTS
            if part in self.fingerprints
        )
        lines = [f"protocol {self.protocol}, fold {self.fold}, seed {self.seed}: {sizes}"]
        if not np.isnan(self.subjects_in_two_parts):
            percent = f"{100 * self.subjects_in_two_parts:.1f} %"
            lines.append(f"{percent} of the test images show a subject that also trains or validates")
        return "\n  ".join([*lines, *self.notes])


def fold_numbers(table: FaceTable | pd.DataFrame, protocol: str, seed: int = 0) -> tuple[int, ...]:
    """Return the numbers of a protocol's folds, for cross-validation."""
    return tuple(_partition(_with_race_names(table), protocol, seed).folds)


def make_split(
    table: FaceTable | pd.DataFrame,
    protocol: str,
    fold: int = 0,
    seed: int = 0,
    val_fraction: float = VAL_FRACTION,
    calibration_fraction: float = 0.0,
) -> Split:
    """Split a table by a protocol.

    Validation and calibration faces are drawn from the training rows by subject, else by groups of exact
    copies, else by image, until the fraction of the training images is reached. A validation part of the
    table itself is kept. The validation part does not depend on the calibration fraction.

    Args:
        table: A face table; in a bare frame ``race`` is an index in ``labels.RACES``.
        protocol: A name in ``PROTOCOLS``.
        fold: Number of the test fold.
        seed: Seed of the random draws.
        val_fraction: Fraction of the training images for validation, in [0, 1).
        calibration_fraction: Fraction of the training images for calibration, in [0, 1).

    Raises:
        DataError: The protocol or the fold does not exist, the table does not suit the protocol, a part is
            empty, or a subject is in two parts of a protocol that forbids it.
    """
    for name, fraction in (("val_fraction", val_fraction), ("calibration_fraction", calibration_fraction)):
        if not 0 <= fraction < 1:
            raise DataError(f"{name} {fraction} must lie in [0, 1)")
    faces, where = _with_race_names(table), f"protocol {protocol!r}, fold {fold}"
    partition = _partition(faces, protocol, seed)
    if fold not in partition.folds:
        raise DataError(
            f"protocol {protocol!r} has no fold {fold}; its folds are [{shown(sorted(partition.folds), 20)}]"
        )
    roles = partition.folds[fold]
    rows = {part: np.flatnonzero(np.isin(partition.part, getattr(roles, part))) for part in SPLITS}
    rows["calibration"] = np.empty(0, np.int64)
    sizes = {"val": val_fraction, "calibration": calibration_fraction}
    sizes = {part: fraction * len(rows["train"]) for part, fraction in sizes.items()}
    for part, purpose in (("val", "validation"), ("calibration", "calibration")):
        if len(rows["train"]) and not (part == "val" and roles.val):
            before = images_before(sampling_units(faces.iloc[rows["train"]]), seed, f"{purpose} {fold}")
            drawn = before < sizes[part]
            rows[part], rows["train"] = rows["train"][drawn], rows["train"][~drawn]
    required = [part for part in SPLITS if getattr(roles, part)]
    required += [part for part, size in sizes.items() if roles.train and size > 0]
    if partition.exclusive:
        _check_subjects(faces, rows, where)
    if empty := [part for part in required if not len(rows[part])]:
        found = ", ".join(f"{part} {len(rows[part]):,}" for part in rows)
        raise DataError(
            f"{where}: the part {empty[0]} is empty: the {len(faces):,} faces are split into {found}"
        )
    prints, notes = _fingerprints(faces, rows), partition.notes
    if isinstance(table, FaceTable) and table.cleaning:
        prints["cleaning"] = hash_lines(table.cleaning)
        notes = (*notes, f"cleaned by {', '.join(table.cleaning)}")
    twice = _shared_subjects(faces, rows)
    return Split(protocol, fold, seed, **rows, fingerprints=prints, subjects_in_two_parts=twice, notes=notes)


def _partition(faces: pd.DataFrame, protocol: str, seed: int) -> Partition:
    if protocol not in PROTOCOLS:
        hint = nearest(protocol, PROTOCOLS)
        raise DataError(f"unknown protocol {protocol!r}{hint}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol](faces, seed)


def _with_race_names(table: FaceTable | pd.DataFrame) -> pd.DataFrame:
    frame, classes = (table.frame, table.race_classes) if isinstance(table, FaceTable) else (table, RACES)
    races = frame["race"].to_numpy()
    names, keys = (np.array([*each, ""], object) for each in (classes, map(class_key, classes)))
    # index -1, unknown, is the last
    return frame.reset_index(drop=True).assign(race_name=names[races], race_key=keys[races])


def _check_subjects(faces: pd.DataFrame, rows: dict[str, Positions], where: str) -> None:
    held = pd.concat([faces["subject"].iloc[rows[part]].drop_duplicates() for part in PARTS])
    twice = np.unique(held[(held != "") & held.duplicated()])
    if len(twice):
        raise DataError(
            f"{where}: {pluralize(len(twice), 'subject is', 'subjects are')} in two parts, "
            f"such as {shown(twice[:1].tolist())}"
        )


def _shared_subjects(faces: pd.DataFrame, rows: dict[str, Positions]) -> float:
    subjects = faces["subject"].to_numpy(object)
    seen = set(subjects[np.concatenate([rows["train"], rows["val"]])]) - {""}
    tested = subjects[rows["test"]]
    return float(np.mean([subject in seen for subject in tested])) if len(tested) and seen else float("nan")


def _fingerprints(faces: pd.DataFrame, rows: dict[str, Positions]) -> dict[str, str]:
    ids = faces["id"].to_numpy(object)
    parts = [part for part in PARTS if part in SPLITS or len(rows[part])]
    prints = {part: fingerprint(ids[rows[part]]) for part in parts}
    columns = ["id", "age_low", "age_high", "gender", "race_name"]
    used = faces[columns].iloc[np.concatenate([rows[part] for part in parts])]
    genders = np.array([*GENDERS, ""], object)[used["gender"].to_numpy()]
    ages = [used[name].fillna(-1).astype("int64") for name in ("age_low", "age_high")]
    labels = zip(used["id"], *ages, genders, used["race_name"], strict=True)
    return {**prints, "labels": fingerprint("\t".join(map(str, face)) for face in labels)}


def fingerprint(lines: Iterable[str]) -> str:
    """Return the SHA-256 (hexadecimal) of the sorted lines."""
    return hash_lines(sorted(lines))


def shared_fraction(fractions: Sequence[float], tested: Sequence[int]) -> float:
    """Return ``subjects_in_two_parts`` of several splits together; NaN if it is unknown for all of them.

    Args:
        fractions: That of each split, NaN if unknown.
        tested: Number of test images of each split; unknown ones count as not shared.
    """
    shared, counts = np.array(fractions, np.float64), np.array(tested)
    known = ~np.isnan(shared)
    return float((shared * counts)[known].sum() / counts.sum()) if known.any() else float("nan")
