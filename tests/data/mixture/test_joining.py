import numpy as np
import pandas as pd
import pytest

from mtmsa_lightning.data.mixture.joining import unite
from mtmsa_lightning.data.splits.split import PARTS, fingerprint
from mtmsa_lightning.labels import class_key


def test_class_names_are_united_by_name():
    assert unite([(), ("white", "East Asian"), ("east_asian", "Black", "WHITE"), ("other",)]) == (
        "white", "East Asian", "Black", "other",
    )  # fmt: skip


def test_a_joined_table_has_every_face_with_its_labels_by_name(mixture):
    data = mixture()
    faces = data.table.frame
    assert len(faces) == sum(len(source.table) for source in data.sources) == 71
    for source in data.sources:
        own, joined = source.table.frame, faces[faces["dataset"] == source.name].reset_index(drop=True)
        same = ["id", "age_low", "age_high", "gender", "fold", "split"]
        pd.testing.assert_frame_equal(own[same], joined[same])
        assert (joined["subject"] == source.name + "/" + own["subject"]).all()
        names = [[data.race_classes[i] if i >= 0 else "" for i in joined["race"]]]
        names += [[source.race_classes[i] if i >= 0 else "" for i in own["race"]]]
        assert [*map(class_key, names[0])] == [*map(class_key, names[1])]
        assert [(data.table.root / path).is_file() for path in joined["path"]] == [True] * len(own)


def test_a_joined_split_has_the_parts_of_every_source(mixture):
    data = mixture()
    ids = data.table.frame["id"].to_numpy(object)
    for part in PARTS:
        of_sources = [
            source.table.frame["id"].to_numpy(object)[getattr(source.split, part)] for source in data.sources
        ]
        assert ids[getattr(data.split, part)].tolist() == np.concatenate(of_sources).tolist()
        if part in data.split.fingerprints:
            assert data.split.fingerprints[part] == fingerprint(np.concatenate(of_sources))
    tested = data.table.frame.iloc[data.split.test]
    learnt = data.table.frame.iloc[np.concatenate([data.split.train, data.split.val])]
    expected = tested["subject"].isin(learnt["subject"]).mean()
    assert data.split.subjects_in_two_parts == pytest.approx(expected)
    assert "exact: protocol predefined, fold 0, seed 0" in data.split.notes
