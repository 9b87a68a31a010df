import re
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmsa_lightning.data.datasets import morph
from mtmsa_lightning.data.datasets.adience import read_adience
from mtmsa_lightning.data.datasets.morph import read_morph
from mtmsa_lightning.data.face_table import SPLITS
from mtmsa_lightning.data.release_files import ImageListing
from mtmsa_lightning.data.splits.protocols import PROTOCOLS
from mtmsa_lightning.data.splits.split import fold_numbers, make_split
from mtmsa_lightning.errors import DataError

MORPH_PROTOCOLS = ("random", "subject_exclusive", "setting_a", "s1_s2_s3", "whole", "train_all")


@pytest.fixture(scope="module")
def morph_table(full_morph):
    root, photos = full_morph
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(morph, "list_images", lambda root: ImageListing(photos))
        return read_morph(root)


@pytest.fixture(scope="module")
def adience_table(full_adience):
    return read_adience(full_adience)


@pytest.fixture(scope="module")
def exclusive_splits(morph_table):
    return [make_split(morph_table, "subject_exclusive", fold) for fold in range(5)]


def positions(split):
    return {part: getattr(split, part) for part in SPLITS}


def subjects(table, rows):
    return set(table.frame["subject"].iloc[rows])


def gender_by_race(table, rows):
    frame = table.frame.iloc[rows]
    return Counter(zip(frame["gender"], [table.race_classes[race] for race in frame["race"]], strict=True))


def test_random_on_morph(morph_table):
    splits = [make_split(morph_table, "random", fold) for fold in range(5)]
    assert [len(split.test) for split in splits] == [11_027, 11_027, 11_027, 11_027, 11_026]
    assert [len(split.train) + len(split.val) for split in splits][:2] == [44_107, 44_107]
    assert len(np.unique(np.concatenate([split.test for split in splits]))) == 55_134
    assert 0.9 < splits[0].subjects_in_two_parts < 1
    assert "of the test images show a subject that also trains or validates" in splits[0].summary()


def test_subject_exclusive_on_morph(morph_table, exclusive_splits):
    splits = exclusive_splits
    tests = [subjects(morph_table, split.test) for split in splits]
    assert len(set.union(*tests)) == sum(map(len, tests)) == 13_617
    ages = morph_table.frame["age_low"]
    for split in splits:
        assert len(split.test) == pytest.approx(55_134 / 5, rel=0.01)
        assert ages.iloc[split.test].mean() == pytest.approx(ages.mean(), abs=0.3)
        assert not subjects(morph_table, split.train) & subjects(morph_table, split.val)
        assert split.subjects_in_two_parts == 0


def test_age_decades_are_balanced(morph_table, exclusive_splits):
    decade = morph_table.frame["age_low"] // 10
    for split in exclusive_splits:
        counts = decade.iloc[split.test].value_counts()
        assert (counts - decade.value_counts() / 5).abs().max() <= 10


def test_setting_a_on_morph(morph_table):
    splits = [make_split(morph_table, "setting_a", fold) for fold in range(5)]
    assert sorted(len(split.test) for split in splits) == [1_098, 1_098, 1_098, 1_099, 1_099]
    assert sum(len(split.test) for split in splits) == 5_492
    assert {len(split.train) + len(split.val) for split in splits} == {4_393, 4_394}
    assert set(morph_table.frame["race"].iloc[splits[0].train]) == {0}
    assert "not the published list" in splits[0].summary()


def test_s1_s2_s3_on_morph(morph_table):
    first, second = (make_split(morph_table, "s1_s2_s3", fold) for fold in (0, 1))
    s1 = np.concatenate([first.train, first.val])
    s2 = np.concatenate([second.train, second.val])
    assert len(s1) == len(s2) == 2 * (7_961 // 2 + 2_598 // 2) == 10_558
    expected = {(0, "white"): 3_980, (0, "black"): 3_980, (1, "white"): 1_299, (1, "black"): 1_299}
    assert gender_by_race(morph_table, s1) == gender_by_race(morph_table, s2) == expected
    assert not set(s1) & set(s2)
    assert set(first.test) == set(range(55_134)) - set(s1)
    assert set(second.test) == set(range(55_134)) - set(s2)
    assert first.notes == (
        "S1 and S2 hold 10,558 faces each, S3 34,018",
        "male to female in S1 and S2: 7,960 to 2,598 (3.06)",
    )


def test_folds_on_adience(adience_table):
    splits = [make_split(adience_table, "folds", fold) for fold in range(5)]
    assert [len(split.test) for split in splits] == [4_316, 3_101, 3_339, 2_975, 3_693]
    for split in splits:
        assert len(split.val) == pytest.approx(0.1 * (17_424 - len(split.test)), rel=0.05)
        assert not subjects(adience_table, split.train) & subjects(adience_table, split.val)
        assert split.subjects_in_two_parts == 0


def test_a_calibration_part_comes_out_of_training_by_subject_and_leaves_the_rest_alone(adience_table):
    plain = make_split(adience_table, "folds", 1)
    split = make_split(adience_table, "folds", 1, calibration_fraction=0.1)
    assert np.array_equal(split.val, plain.val)
    assert np.array_equal(split.test, plain.test)
    assert np.array_equal(np.sort([*split.train, *split.calibration]), plain.train)
    trained_on = len(plain.train) + len(plain.val)
    assert len(split.calibration) == pytest.approx(0.1 * trained_on, rel=0.05)
    others = np.concatenate([split.train, split.val, split.test])
    assert not subjects(adience_table, split.calibration) & subjects(adience_table, others)
    assert split.fingerprints["val"] == plain.fingerprints["val"]
    assert split.fingerprints["train"] != plain.fingerprints["train"]
    assert split.fingerprints["labels"] == plain.fingerprints["labels"], "the same faces are used"
    assert "calibration" in split.fingerprints
    assert "calibration" in split.summary()
    assert "calibration" not in plain.fingerprints


@pytest.mark.parametrize("protocol", MORPH_PROTOCOLS)
def test_row_order_does_not_matter(morph_table, protocol):
    order = np.random.default_rng(1).permutation(len(morph_table))
    shuffled = morph_table.frame.iloc[order].assign(race=lambda frame: frame["race"].replace({3: 4, 4: 5}))
    plain = make_split(morph_table, protocol, 0, seed=3)
    other = make_split(shuffled, protocol, 0, seed=3)  # a bare frame's race is an index in labels.RACES
    assert other.fingerprints == plain.fingerprints
    assert np.array_equal(np.sort(order[other.test]), plain.test)


def test_speed(morph_table):
    for protocol in MORPH_PROTOCOLS:
        start = time.perf_counter()
        make_split(morph_table, protocol)
        assert time.perf_counter() - start < 9, protocol  # below 1 s on an idle core


def test_fingerprints_hold_on_every_platform(face_table):
    table = face_table(
        40, gender=[0, 1] * 20, race=[0, 1, -1, 5] * 10, subject=[str(n // 3) for n in range(40)]
    )
    image, subject = (make_split(table, protocol, 1, 7) for protocol in ("random", "subject_exclusive"))
    assert image.fingerprints == {
        "train": "40fc042455ff288f9813c6ff56992d6a877d07f3900c44662b8e364815ec7eb8",
        "val": "5be8c1798be9d76e064e9dbe1b5cdb3f051ed9c8236fb91ef2a5c31932d53aa3",
        "test": "8b9ae7536f4149a8efc9ef27127f7fd90716dd048c2d6a589e2597595b0d5fa2",
        "labels": "c1f08a5aed33051a22b0e2d8be54c51ea4f4c701331e0f7a786ee3e43b09a08a",
    }
    assert subject.fingerprints["test"] == "1d85c02b0c0750bc6aebb645abaf49ae1c9c508f6556afa6f2eba94d0e2b9b01"
    assert subject.fingerprints["labels"] == image.fingerprints["labels"]


def test_labels_fingerprint_follows_labels_and_ids_only(face_table):
    prints = [make_split(face_table(50, gender=[gender] * 50), "random").fingerprints for gender in (0, 1)]
    assert [prints[0][part] == prints[1][part] for part in (*SPLITS, "labels")] == [True, True, True, False]
    folds = [make_split(face_table(50), "random", fold).fingerprints for fold in (0, 1)]
    assert folds[0]["test"] != folds[1]["test"]
    assert folds[0]["labels"] == folds[1]["labels"]


def test_seed_changes_the_draw(face_table):
    table = face_table(100, subject=[str(n // 2) for n in range(100)])
    for protocol in ("random", "subject_exclusive"):
        first, second = (make_split(table, protocol, seed=seed) for seed in (0, 1))
        assert set(first.test) != set(second.test)


def test_exact_copies_stay_together(face_table):
    content = np.array([f"{n // 4:016x}" for n in range(200)])
    table = face_table(200, content=content)
    for fold in range(5):
        parts = [set(content[rows]) for rows in positions(make_split(table, "random", fold)).values()]
        assert sum(map(len, parts)) == 50


def test_unknown_content_does_not_glue_images(face_table):
    split = make_split(face_table(100, content=[""] * 100), "random")
    assert len(split.test) == 20


def test_predefined_split_is_kept(face_table):
    table = face_table(30, split=["train"] * 15 + ["val"] * 5 + ["test"] * 8 + [""] * 2, subject=["a"] * 30)
    split = make_split(table, "predefined", val_fraction=0.5)
    assert [len(rows) for rows in positions(split).values()] == [15, 5, 8]
    assert split.val.tolist() == list(range(15, 20))
    assert split.subjects_in_two_parts == 1
    assert split.notes == ("2 faces without a split are not used",)


def test_predefined_without_val_draws_it_from_train(face_table):
    split = make_split(face_table(30, split=["train"] * 20 + ["test"] * 10), "predefined", val_fraction=0.25)
    assert [len(rows) for rows in positions(split).values()] == [15, 5, 10]
    assert max(split.val) < 20


def test_predefined_falls_back_to_folds(face_table):
    table = face_table(30, fold=[1, 2, 5] * 10, subject=["a"] * 30)
    assert fold_numbers(table, "predefined") == (1, 2, 5)
    assert set(make_split(face_table(30, fold=[1, 2, 5] * 10), "predefined", 5).test % 3) == {2}


def test_whole_and_train_all(face_table):
    table = face_table(20)
    whole, train_all = make_split(table, "whole"), make_split(table, "train_all")
    assert [len(rows) for rows in positions(whole).values()] == [0, 0, 20]
    assert [len(rows) for rows in positions(train_all).values()] == [18, 2, 0]
    assert np.isnan(whole.subjects_in_two_parts)


def test_no_validation_on_request(face_table):
    assert len(make_split(face_table(20), "random", val_fraction=0).val) == 0


def test_faces_without_age_are_kept(face_table):
    table = face_table(20, age_low=np.nan, age_high=np.nan, subject=[str(n) for n in range(20)])
    split = make_split(table, "subject_exclusive")
    assert sum(len(rows) for rows in positions(split).values()) == 20


def test_fold_numbers(face_table):
    table = face_table(20, subject=[str(n) for n in range(20)])
    assert fold_numbers(table, "subject_exclusive") == (0, 1, 2, 3, 4)
    assert fold_numbers(table, "s1_s2_s3") == (0, 1)
    assert fold_numbers(table, "whole") == (0,)


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({}, {"protocol": "randm"}, r"unknown protocol 'randm' \(did you mean 'random'\?\)"),
        ({}, {"protocol": "random", "fold": 5}, r"'random' has no fold 5; its folds are \[0, 1, 2, 3, 4\]"),
        ({}, {"protocol": "random", "val_fraction": 1.0}, "val_fraction 1.0 must lie in"),
        ({}, {"protocol": "subject_exclusive"}, r"20 of 20 have none.*UTKFace.*--data\.protocol random"),
        ({}, {"protocol": "setting_a"}, "needs 5,492 White faces, the table has 0"),
        ({}, {"protocol": "s1_s2_s3"}, "'s1_s2_s3', fold 0: the part train is empty: the 20 faces"),
        ({}, {"protocol": "predefined"}, "both are empty"),
        ({}, {"protocol": "folds"}, "at least two folds"),
        ({"split": "test"}, {"protocol": "predefined"}, "'predefined', fold 0: the part train is empty"),
        ({"subject": "a"}, {"protocol": "random"}, "the part train is empty: .* train 0, val 16, test 4"),
        ({"subject": "a", "fold": [0, 1] * 10}, {"protocol": "folds"}, "1 subject is in two.*'a'"),
    ],
)
def test_errors_name_the_cause(face_table, columns, arguments, message):
    with pytest.raises(DataError, match=message):
        make_split(face_table(20, **columns), **arguments)


faces = st.lists(
    st.tuples(
        st.sampled_from("abcdefghijklmnop"), st.integers(0, 100), st.integers(-1, 1), st.integers(-1, 5),
        st.sampled_from(["c1", "c2", "c3", ""]),
    ),
    min_size=1,
    max_size=60,
)  # fmt: skip


@given(
    faces=faces, protocol=st.sampled_from(sorted(PROTOCOLS)), seed=st.integers(0, 99), val=st.floats(0, 0.9),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=150)
def test_properties(faces, protocol, seed, val, data):
    subject, age, gender, race, content = (list(column) for column in zip(*faces, strict=True))
    ids = [f"made/{n}" for n in range(len(faces))]
    frame = pd.DataFrame(
        {
            "id": ids, "age_low": np.array(age, float), "age_high": np.array(age, float), "gender": gender,
            "race": race, "subject": subject, "content": content, "split": "",
            "fold": [ord(name) % 3 for name in subject],
        }
    )  # fmt: skip
    try:
        fold = data.draw(st.sampled_from(fold_numbers(frame, protocol)))
        split = make_split(frame, protocol, fold, seed, val)
    except DataError as error:
        assert re.search("is empty|needs", str(error))  # noqa: PT017  # too few faces for this protocol
        return
    rows = np.concatenate(list(positions(split).values()))
    assert len(rows) == len(set(rows.tolist()))
    assert set(rows.tolist()) == set(range(len(faces)))
    assert all((np.diff(part) > 0).all() for part in positions(split).values())
    assert not {subject[row] for row in split.train} & {subject[row] for row in split.val}
    if protocol in ("subject_exclusive", "folds"):
        assert not split.subjects_in_two_parts > 0
    order = data.draw(st.permutations(range(len(faces))))
    again = make_split(frame.iloc[order], protocol, fold, seed, val)
    assert again.fingerprints == split.fingerprints
    assert again.summary() == split.summary()
