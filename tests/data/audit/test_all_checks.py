import numpy as np
import pytest

from mtmsa_lightning import MORPH, Adience, FaceCSV, UTKFace
from mtmsa_lightning.align.detected_face import DetectedFace
from mtmsa_lightning.data.audit.audit import Thresholds, audit
from mtmsa_lightning.data.audit.findings import KINDS, has_errors
from mtmsa_lightning.data.datasets import morph
from mtmsa_lightning.data.release_files import ImageListing
from mtmsa_lightning.data.synthetic import write_adience, write_morph, write_utkface
from mtmsa_lightning.errors import DataError

PLANTED = {
    "subject-leak": 1, "copy-leak": 1, "conflicting-labels": 1, "unreadable": 1, "near-leak": 1,
    "near-conflict": 1, "copy-validation": 1, "copies": 2, "gender": 1, "race": 1, "tiny": 1,
    "near-copies": 1, "blurred": 1, "dropped": 1,
}  # fmt: skip


def found(result):
    return {finding.kind: finding for finding in result.findings}


@pytest.fixture(scope="module")
def dirty(dirty_release):
    return audit(FaceCSV(root=str(dirty_release), protocol="predefined", num_workers=1))


def test_nothing_is_found_in_a_clean_release(clean_release):
    result = audit(FaceCSV(root=str(clean_release), protocol="predefined", num_workers=2))
    assert result.findings == []
    assert not has_errors(result.findings)
    assert result.scan.readable.all()


def test_every_planted_fault_is_found_once(dirty):
    assert {kind: finding.count for kind, finding in found(dirty).items()} == PLANTED


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("subject-leak", ["leak-train", "leak-test"]),
        ("copy-leak", ["copy-train", "copy-test"]),
        ("copy-validation", ["twin-train", "twin-val"]),
        ("conflicting-labels", ["other-1", "other-2"]),
        ("near-leak", ["near-train", "near-test"]),
        ("near-conflict", ["alike-1", "alike-2"]),
        ("near-copies", ["alike-1", "alike-2"]),
        ("gender", ["sexes-1", "sexes-2"]),
        ("race", ["races-1", "races-2"]),
        ("tiny", ["tiny"]),
        ("blurred", ["blurred"]),
    ],
)
def test_a_finding_names_its_faces(dirty, kind, files):
    ((*rows,),) = found(dirty)[kind].groups
    assert [name.partition(".")[0] for name in dirty.table.frame["path"].iloc[rows]] == files


def test_texts_say_what_was_counted(dirty):
    texts = {kind: finding.text for kind, finding in found(dirty).items()}
    assert texts["conflicting-labels"] == "pictures with conflicting labels: 1 (2 files)"
    assert texts["near-leak"] == (
        "pairs of near-duplicates (at most 31 of 256 bits apart) tested and learnt from in some fold: 1"
    )
    assert found(dirty)["conflicting-labels"].examples == (
        "csv/other-1.png (28, male, white); csv/other-2.png (38, male, white)",
    )
    assert found(dirty)["dropped"].examples == ("file not found: 1",)
    assert "broken.png" in found(dirty)["unreadable"].examples[0]


def test_findings_come_gravest_first(dirty):
    kinds = [finding.kind for finding in dirty.findings]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert has_errors(dirty.findings)


def test_the_way_out_of_copies_is_the_cleaning_rules(dirty_release):
    rules = ["drop-conflicting", "drop-duplicates"]
    result = audit(FaceCSV(root=str(dirty_release), protocol="predefined", num_workers=1, clean=rules))
    left = PLANTED.keys() - {"copy-leak", "copy-validation", "copies", "conflicting-labels"}
    assert found(result).keys() == left
    assert result.table.cleaning == ("drop-conflicting@1", "drop-duplicates@1")


def test_thresholds_are_the_users(dirty_release):
    data = FaceCSV(root=str(dirty_release), protocol="predefined", num_workers=1)
    result = audit(data, Thresholds(near=0, min_side=97, min_sharpness=0))
    kinds = found(result)
    assert not {"near-leak", "near-copies", "blurred"} & kinds.keys()
    assert kinds["tiny"].count == len(result.table) - 1, "all but the one that cannot be read"


def test_without_images_only_table_and_split_are_looked_at(dirty_release):
    result = audit(FaceCSV(root=str(dirty_release), protocol="predefined"), look=False)
    assert found(result).keys() == {"subject-leak", "gender", "race", "dropped"}
    assert result.scan is None


def test_under_random_folds_leaks_are_searched_in_all_folds(dirty_release):
    """By image, subjects may be shared; the copies of `copy` meet in one fold or another."""
    result = audit(FaceCSV(root=str(dirty_release), protocol="random", num_workers=1))
    assert len(result.splits) == 5
    assert "subject-shared" in found(result)
    assert "subject-leak" not in found(result)


def test_a_protocol_that_cannot_be_followed_is_an_error_and_the_rest_goes_on(dirty_release):
    lines = (dirty_release / "faces.csv").read_text().splitlines()
    folds = [line.rpartition(",")[0] for line in lines]
    numbers = ["fold", *(str(index % 2) for index in range(len(lines) - 1))]
    joined = [f"{line},{number}" for line, number in zip(folds, numbers, strict=True)]
    (dirty_release / "folds.csv").write_text("\n".join(joined) + "\n")
    result = audit(FaceCSV(root=str(dirty_release), table="folds.csv", protocol="folds", num_workers=1))
    assert "are in two parts" in found(result)["split"].examples[0]
    assert result.split is None
    assert result.baselines == {}
    assert {"gender", "unreadable", "conflicting-labels"} <= found(result).keys()
    assert "copy-leak" not in found(result)


def test_a_fold_that_does_not_exist_is_the_users_mistake(clean_release):
    with pytest.raises(DataError, match="no fold 3"):
        audit(FaceCSV(root=str(clean_release), protocol="predefined", fold=3), look=False)


def test_faces_are_counted_by_a_detector(clean_release):
    seen = []

    def detect(image):
        seen.append(image.shape)
        turned = 90 if len(seen) == 5 else 0
        face = DetectedFace(np.array([1.0, 1, 9, 9]), np.zeros((5, 2)), 0.99, turned)
        return [] if len(seen) == 3 else [face]

    data = FaceCSV(root=str(clean_release), protocol="predefined", num_workers=1)
    result = audit(data, detect=detect)
    counts = {kind: finding.count for kind, finding in found(result).items()}
    assert counts == {"faceless": 1, "sideways": 1}
    assert found(result)["sideways"].examples == ("csv/04.png: upright after 90 degrees clockwise",)
    assert len(seen) == 12


# ---------------------------------------------------------------------------- synthetic releases


def test_the_dirt_of_a_synthetic_morph_is_found(tmp_path):
    write_morph(tmp_path / "morph", n_faces=60, size=64)
    kinds = found(audit(MORPH(root=str(tmp_path / "morph"), num_workers=1)))
    assert {kind: finding.count for kind, finding in kinds.items()} == {"birth-date": 1, "race": 1}
    assert kinds["birth-date"].examples[0].startswith("000001: ")


def test_the_dirt_of_a_synthetic_adience_is_found(tmp_path):
    write_adience(tmp_path / "adience", n_faces=60, size=64)
    kinds = found(audit(Adience(root=str(tmp_path / "adience"), num_workers=1)))
    assert kinds.keys() == {"copies", "dropped"}
    assert kinds["copies"].count == 1, "every hundredth row from the fifth on is repeated"
    assert any("no age" in example for example in kinds["dropped"].examples)


def test_the_dirt_of_a_synthetic_utkface_is_found(tmp_path):
    write_utkface(tmp_path / "utkface", n_faces=60, size=64)
    kinds = found(audit(UTKFace(root=str(tmp_path / "utkface"), num_workers=1)))
    assert {kind: finding.count for kind, finding in kinds.items()} == {
        "conflicting-labels": 1, "copies": 3, "dropped": 1,
    }  # fmt: skip
    assert kinds["dropped"].examples == ("name lacks a field: 1",)


# ---------------------------------------------------------------------------- the size of the release


@pytest.mark.slow
def test_a_table_of_the_releases_size_is_audited(full_morph, monkeypatch):
    root, photos = full_morph
    monkeypatch.setattr(morph, "list_images", lambda root: ImageListing(photos))
    result = audit(MORPH(root=str(root)), look=False)
    assert len(result.table) == 55_134
    assert len(result.splits) == 5
    assert {finding.kind for finding in result.findings} == {"birth-date"}, "its dates of birth are made up"
    assert all(comparison.agrees for comparison in result.comparisons)
    assert len(result.comparisons) == 9
