import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.data.audit.leaks import copies, near_duplicates, parts_of, shared_subjects
from mtmsa_lightning.data.splits.split import fold_numbers, make_split


def splits_of(table, protocol="predefined", val_fraction=0.2):
    folds = fold_numbers(table, protocol)
    return {fold: make_split(table, protocol, fold, 0, val_fraction) for fold in folds}


def test_parts_of_every_fold_against_the_splits(face_table):
    table = face_table(60)
    splits = splits_of(table, "random")
    parts = parts_of(splits, len(table))
    for row, split in zip(parts, splits.values(), strict=True):
        for number, name in enumerate(("train", "val", "test")):
            assert np.flatnonzero(row == number).tolist() == getattr(split, name).tolist()


@pytest.mark.parametrize(
    ("split", "kind"),
    [
        (["train", "test", "val"], "copy-leak"),
        (["val", "test", "train"], "copy-leak"),
        (["train", "val", "test"], "copy-validation"),
        (["train", "train", "test"], "copies"),
        (["test", "test", "train"], "copies"),
        (["", "test", "train"], "copies"),
    ],
)
def test_what_two_copies_are_depends_on_their_parts(face_table, split, kind):
    table = face_table(6, split=[*split, "train", "val", "test"])
    contents = pd.Series(["x", "x", "a", "b", "c", ""])
    (finding,) = copies(table, contents, splits_of(table))
    assert (finding.kind, finding.count, finding.groups) == (kind, 1, ((0, 1),))


@pytest.mark.parametrize(
    ("split", "leaks"),
    [
        (["train", "test"], True),
        (["test", "val"], True),
        (["train", "val"], False),
        (["test", "test"], False),
        (["", "test"], False),
    ],
)
def test_near_pairs_leak_between_test_and_the_rest(face_table, split, leaks):
    table = face_table(5, split=[*split, "train", "val", "test"])
    contents = pd.Series([f"{row}" for row in range(5)])
    findings = near_duplicates(table, np.array([[0, 1, 7]]), contents, splits_of(table), 31)
    assert [finding.kind for finding in findings] == ["near-leak" if leaks else "near-copies"]
    assert "7 bits" in findings[0].examples[0]


def test_a_near_pair_leaks_through_an_exact_copy_too(face_table):
    table = face_table(6, split=["", "test", "train", "train", "val", "test"])
    contents = pd.Series(["x", "y", "x", "a", "b", "c"])  # the pair's first picture is trained on as row 2
    findings = near_duplicates(table, np.array([[0, 1, 7]]), contents, splits_of(table), 31)
    assert [finding.kind for finding in findings] == ["near-leak"]


def test_calibration_is_held_apart_from_test_and_from_training(face_table):
    table = face_table(60)
    split = make_split(table, "random", 0, 0, 0.2, 0.2)
    calibrated, tested, trained = split.calibration[0], split.test[0], split.train[0]
    for other, kind in ((tested, "copy-leak"), (trained, "copy-validation")):
        contents = pd.Series([str(row) for row in range(60)])
        contents[[calibrated, other]] = "x"
        (finding,) = copies(table, contents, {0: split})
        assert finding.kind == kind


@pytest.mark.parametrize(
    ("columns", "apart"),
    [
        ({"age_low": [20, 25], "age_high": [20, 25]}, False),
        ({"age_low": [20, 26], "age_high": [20, 26]}, True),
        ({"age_low": [20, np.nan], "age_high": [20, np.nan]}, False),
        ({"gender": [0, 1], "age_low": [20, 20], "age_high": [20, 20]}, True),
        ({"gender": [0, -1], "age_low": [20, 20], "age_high": [20, 20]}, False),
        ({"race": [2, 3], "age_low": [20, 20], "age_high": [20, 20]}, True),
    ],
)
def test_near_pairs_with_other_labels(face_table, columns, apart):
    table = face_table(2, **columns)
    findings = near_duplicates(table, np.array([[0, 1, 7]]), pd.Series(["x", "y"]), {}, 31)
    assert ("near-conflict" in [finding.kind for finding in findings]) == apart


def test_exact_copies_are_no_near_duplicates(face_table):
    pairs = np.array([[0, 1, 0]])
    assert near_duplicates(face_table(2), pairs, pd.Series(["x", "x"]), {}, 31) == []


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [("random", "subject-shared"), ("predefined", "subject-leak"), ("subject_exclusive", None)],
)
def test_shared_subjects_are_as_grave_as_the_protocol_promises(face_table, protocol, kind):
    subject = [f"s{index // 2}" for index in range(40)]
    split = [("train", "test")[index % 2] for index in range(38)] + ["val", "val"]
    table = face_table(40, subject=subject, split=split)
    findings = shared_subjects(table, splits_of(table, protocol))
    assert [finding.kind for finding in findings] == ([kind] if kind else [])
    if kind == "subject-leak":
        assert findings[0].count == 19
        assert findings[0].examples[0] == "s0: 2 pictures"
