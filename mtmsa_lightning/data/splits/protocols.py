"""Split protocols: one function per protocol.

Random draws hash ``seed|purpose|key`` and use integer arithmetic only. A split therefore depends on the ids,
labels and seed alone, not on the order of the rows, the platform or library versions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning._utils.text import pluralize, shown
from mtmsa_lightning.data.face_table import SPLITS
from mtmsa_lightning.data.release_files import hash_ids
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import GENDERS

Positions = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]

FOLDS = 5
SETTING_A_SIZE = 5_492
"""Number of White faces in MORPH's Setting A."""


@dataclass(frozen=True)
class Roles:
    """The parts of a :class:`Partition` for training, test and validation in one fold."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    val: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Partition:
    """The result of a protocol: disjoint parts of the table and their roles in every fold.

    Attributes:
        part: Part of every row; -1 for an unused row.
        folds: Roles of the parts by number of the fold. Without a ``val`` part the validation faces are drawn
            from the training rows.
        exclusive: Whether a subject must not be in two of train, val and test.
        notes: Remarks for readers of the results.
    """

    part: Positions
    folds: dict[int, Roles]
    exclusive: bool = False
    notes: tuple[str, ...] = ()


def random(faces: pd.DataFrame, seed: int) -> Partition:
    """Split images into five disjoint folds of 20 %; exact copies (equal ``content``) stay together."""
    return Partition(_image_folds(faces, seed, "random"), _rotate(range(FOLDS)))


def subject_exclusive(faces: pd.DataFrame, seed: int) -> Partition:
    """Split subjects into five folds, balanced by size and by the histogram of age decades.

    Each subject, largest first (ties by hash), goes to the fold that minimises the sum of squares of fold
    sizes and weighted decade counts.
    """
    unknown = int((faces["subject"] == "").sum())
    if unknown:
        raise DataError(
            f"protocol 'subject_exclusive' needs the subject of every face; {unknown:,} of {len(faces):,} "
            "have none. A dataset without subjects (UTKFace has none) can only be split by image: "
            "--data.protocol random"
        )
    subjects, row_subject = np.unique(faces["subject"].to_numpy(object), return_inverse=True)
    decades, row_decade = np.unique(_decade(faces), return_inverse=True)
    numbers = np.zeros((len(subjects), len(decades)), np.int64)
    np.add.at(numbers, (row_subject, row_decade), 1)
    counts = np.column_stack([numbers.sum(axis=1), numbers * (len(faces) // numbers.sum(axis=0))])
    fold_of = _balanced_folds(counts, _draw(subjects, seed, "subject_exclusive"))
    return Partition(fold_of[row_subject], _rotate(range(FOLDS)), exclusive=True)


def setting_a(faces: pd.DataFrame, seed: int) -> Partition:
    """Draw 5,492 White faces and split them into five random folds, as in MORPH's Setting A."""
    white = np.flatnonzero(faces["race_key"] == "white")
    if len(white) < SETTING_A_SIZE:
        raise DataError(
            f"protocol 'setting_a' needs {SETTING_A_SIZE:,} White faces, the table has {len(white):,}"
        )
    drawn = images_before(faces["id"].to_numpy(object)[white], seed, "setting_a draw") < SETTING_A_SIZE
    part = np.full(len(faces), -1, np.int64)
    part[white[drawn]] = _image_folds(faces.iloc[white[drawn]], seed, "setting_a")
    note = "a seeded draw of that size, not the published list"
    return Partition(part, _rotate(range(FOLDS)), notes=(note,))


def s1_s2_s3(faces: pd.DataFrame, seed: int) -> Partition:
    """Split as Guo's S1-S2-S3: S1 and S2 have as many Black as White faces of each gender, S3 the rest.

    S1 and S2 are equally large, as large as possible. Fold 0 trains on S1 and tests on the others, fold 1
    trains on S2 and tests on the others.
    """
    part = np.full(len(faces), 2, np.int64)
    sizes = []
    for gender in range(len(GENDERS)):
        chosen = [(faces["gender"] == gender) & (faces["race_key"] == race) for race in ("white", "black")]
        groups = [np.flatnonzero(rows) for rows in chosen]
        size = min(len(group) for group in groups) // 2
        sizes.append(2 * size)
        for group in groups:
            drawn = images_before(faces["id"].to_numpy(object)[group], seed, "s1_s2_s3") // max(size, 1)
            part[group] = np.minimum(drawn, 2) if size else 2
    male, female = sizes
    ratio = f"{male / female:.2f}" if female else "no female"
    notes = (
        f"S1 and S2 hold {male + female:,} faces each, S3 {int((part == 2).sum()):,}",
        f"male to female in S1 and S2: {male:,} to {female:,} ({ratio})",
    )
    return Partition(part, {0: Roles((0,), (1, 2)), 1: Roles((1,), (0, 2))}, notes=notes)


def predefined(faces: pd.DataFrame, seed: int) -> Partition:
    """Use the table's column ``split`` (train, val, test) or, if it is empty, its column ``fold``."""
    if (faces["split"] == "").all():
        if (faces["fold"] < 0).all():
            raise DataError(
                "protocol 'predefined' needs a column split or fold, and both are empty: fill one, give a "
                "list (--data.split_file), or choose another protocol"
            )
        return replace(folds(faces, seed), exclusive=False)
    numbers = {name: number for number, name in enumerate(SPLITS)}
    part = np.array([numbers.get(name, -1) for name in faces["split"]], np.int64)
    val = (1,) if (part == 1).any() else ()
    return Partition(part, {0: Roles((0,), (2,), val)}, notes=_unused(part, "split"))


def cvpr2024(faces: pd.DataFrame, seed: int) -> Partition:
    """Use the folders of the CVPR 2024 benchmark: five splits of ten folders, or train, val and test.

    Paplham and Franc, "A call to reflect on evaluation practices for age estimation", CVPR 2024.
    """
    part = faces["fold"].to_numpy(np.int64)
    found = set(np.unique(part[part >= 0]).tolist())
    if found == {0, 1, 2}:
        return Partition(part, {0: Roles((0,), (2,), (1,))}, notes=_unused(part, "folder"))
    if found != set(range(10)):
        raise DataError(
            "protocol 'cvpr2024' needs the benchmark's folders 0 to 9, or 0 to 2, not "
            f"[{shown(sorted(found))}]: give its JSON file of this dataset (--data.split_file)"
        )
    starts = (0, 2, 4, 5, 6)  # of the six training folders; two for validation and two for test follow
    order = [[(start + step) % 10 for step in range(10)] for start in starts]
    roles = {fold: Roles((*row[:6],), (*row[8:],), (*row[6:8],)) for fold, row in enumerate(order)}
    return Partition(part, roles, notes=_unused(part, "folder"))


def folds(faces: pd.DataFrame, seed: int) -> Partition:
    """Use the release's own folds (column ``fold``): fold k is the test part, the others train."""
    part = faces["fold"].to_numpy(np.int64)
    numbers = np.unique(part[part >= 0]).tolist()
    if len(numbers) < 2:
        has = f"only fold {numbers[0]}" if numbers else "no fold"
        raise DataError(
            f"protocol 'folds' needs a table with at least two folds, its column fold has {has}: choose "
            "another protocol, e.g. --data.protocol random, or give every face a fold"
        )
    return Partition(part, _rotate(numbers), exclusive=True, notes=_unused(part, "fold"))


def leave_one_subject_out(faces: pd.DataFrame, seed: int) -> Partition:
    """Use the subjects, in the order of their names, as folds: FG-NET's protocol, with 82 folds."""
    subjects, part = np.unique(faces["subject"].to_numpy(object), return_inverse=True)
    if "" in subjects or len(subjects) < 2:
        raise DataError(
            "protocol 'leave_one_subject_out' needs the subject of every face, and at least two subjects: "
            "choose another protocol, e.g. --data.protocol random"
        )
    return Partition(part.astype(np.int64), _rotate(range(len(subjects))), exclusive=True)


def whole(faces: pd.DataFrame, seed: int) -> Partition:
    """Use all faces as test part, for a model that was trained on another dataset."""
    return Partition(np.zeros(len(faces), np.int64), {0: Roles((), (0,))})


def train_all(faces: pd.DataFrame, seed: int) -> Partition:
    """Use all faces for training and validation, for a model that is tested on another dataset."""
    return Partition(np.zeros(len(faces), np.int64), {0: Roles((0,), ())})


PROTOCOLS: dict[str, Callable[[pd.DataFrame, int], Partition]] = {
    protocol.__name__: protocol
    for protocol in (
        random,
        subject_exclusive,
        leave_one_subject_out,
        setting_a,
        s1_s2_s3,
        predefined,
        cvpr2024,
        folds,
        whole,
        train_all,
    )
}
"""The protocols by name: functions of the faces (a table with ``race_name``, ``race_key``) and a seed."""


def _draw(keys: Iterable[str], seed: int, purpose: str) -> Positions:
    """Return a random order of keys: their positions, sorted by hash."""
    return np.argsort(hash_ids(f"{seed}|{purpose}|{key}" for key in keys), kind="stable")


def images_before(units: Texts, seed: int, purpose: str) -> Positions:
    """Draw units in random order; return for every image the number of images drawn before its unit."""
    keys, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = _draw(keys, seed, purpose)
    before = np.empty(len(keys), np.int64)
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    return before[unit]


def _image_folds(faces: pd.DataFrame, seed: int, purpose: str) -> Positions:
    return images_before(_copies(faces), seed, purpose) * FOLDS // len(faces)


def _copies(faces: pd.DataFrame) -> Texts:
    """Return a key that exact copies of an image share: the content hash if known, else the image's id."""
    ids = "image " + faces["id"].str.replace("#[0-9]+$", "", regex=True)  # faces of one image stay together
    if "content" not in faces:
        return ids.to_numpy(object)
    return ids.where(faces["content"] == "", "content " + faces["content"]).to_numpy(object)


def _decade(faces: pd.DataFrame) -> Positions:
    """Return the decade of the midpoint of the age label; -1 for an unknown age."""
    twice_middle = (faces["age_low"] + faces["age_high"]).fillna(-1).to_numpy(np.int64)
    return twice_middle // 20


def _balanced_folds(counts: Positions, order: Positions) -> Positions:
    """Assign subjects to folds, largest first; ``counts`` has the size and weighted decade counts of each."""
    fold_of = np.empty(len(counts), np.int64)
    filled = np.zeros((FOLDS, counts.shape[1]), np.int64)
    for subject in order[np.argsort(-counts[order, 0], kind="stable")]:
        fold_of[subject] = np.argmin(filled @ counts[subject])
        filled[fold_of[subject]] += counts[subject]
    return fold_of


def _rotate(numbers: Sequence[int]) -> dict[int, Roles]:
    """Return folds in which each part is the test part once and the others train."""
    return {test: Roles(tuple(number for number in numbers if number != test), (test,)) for test in numbers}


def _unused(part: Positions, column: str) -> tuple[str, ...]:
    unused = int((part < 0).sum())
    faces = pluralize(unused, f"face without a {column} is", f"faces without a {column} are")
    return (f"{faces} not used",) if unused else ()


def sampling_units(faces: pd.DataFrame) -> Texts:
    """Return the unit of each face that must not be split: subject, else exact copies, else image."""
    return np.where(faces["subject"] == "", _copies(faces), ("subject " + faces["subject"]).to_numpy(object))
