import numpy as np

from mtmsa_lightning.data.audit.counts import counts
from mtmsa_lightning.data.splits.split import make_split


def test_counts_by_hand(face_table):
    table = face_table(
        6,
        age_low=[30, 4, 4, 25, np.nan, 30],
        age_high=[30, 6, 6, 32, np.nan, 30],
        gender=[0, 0, 1, -1, 1, 1],
        race=[1, 0, 1, 1, 1, 1],
        fold=[0, 0, 1, 1, 2, -1],
        split=["train", "train", "val", "test", "test", ""],
    )
    counted = counts(table, make_split(table, "predefined"))
    assert counted["age"].to_dict("index") == {
        "4-6": {"all": 2, "train": 1, "val": 1, "test": 0, "unused": 0},
        "25-32": {"all": 1, "train": 0, "val": 0, "test": 1, "unused": 0},
        "30": {"all": 2, "train": 1, "val": 0, "test": 0, "unused": 1},
        "unknown": {"all": 1, "train": 0, "val": 0, "test": 1, "unused": 0},
    }
    assert list(counted["age"].index) == ["4-6", "25-32", "30", "unknown"]
    assert counted["gender"]["all"].to_dict() == {"male": 2, "female": 3, "unknown": 1}
    assert counted["race"]["all"].to_dict() == {"white": 1, "black": 5}
    assert counted["fold"]["all"].to_dict() == {"0": 2, "1": 2, "2": 1, "unknown": 1}


def test_what_a_dataset_lacks_is_not_counted(face_table):
    counted = counts(face_table(3, race_classes=()))
    assert counted.keys() == {"age"}
    assert list(counted["age"].columns) == ["all", "unused"]
