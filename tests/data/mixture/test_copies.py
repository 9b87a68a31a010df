import logging
import shutil

import numpy as np
import pytest
from mixed_sources import source, write_source

from mtmsa_lightning import Mixture
from mtmsa_lightning.data import training_hashes
from mtmsa_lightning.data.release_files import hash_files
from mtmsa_lightning.errors import DataError

# parts by the last digit of a face's number: 0 and 1 train, 2 val, 3 test


@pytest.fixture
def copied(tmp_path):
    """Copy faces of the source "exact" over faces of "races", then build their mixture."""

    def build(*pairs: tuple[int, int], **settings):
        for name in ("exact", "races"):
            write_source(tmp_path, name)
        for taken, replaced in pairs:
            shutil.copy(tmp_path / f"exact/{taken:03d}.png", tmp_path / f"races/{replaced:03d}.png")
        sources = [source(tmp_path, name) for name in ("exact", "races")]
        return Mixture(sources, image_size=64, num_workers=0, **settings)

    return build


def test_copies_of_test_faces_in_the_training_of_another_source_are_refused(copied):
    """Tested there and trained here, and the reverse; the third pair is of two training faces."""
    data = copied((0, 3), (3, 2), (1, 0))
    with pytest.raises(DataError) as refused:
        data.prepare_data()
    message = str(refused.value)
    assert message.startswith("2 test faces have the same bytes as training or validation images of another")
    assert "exact/003.png = races/002.png" in message
    assert "races/003.png = exact/000.png" in message
    assert "--data.allow_copies true" in message


def test_allowed_copies_are_recorded(copied, caplog):
    data = copied((0, 3), (1, 0), allow_copies=True)
    with caplog.at_level(logging.WARNING):
        data.prepare_data()
    assert "1 test faces have the same bytes" in caplog.text
    data.setup("fit")
    record = data.provenance()
    assert record["copies"] == {"images": 2, "learnt_from": {"test": 1}, "allowed": True}
    assert record["notes"][-1].startswith("2 images are in several sources")


def test_copies_within_a_source_or_in_training_alone_are_no_error(copied, tmp_path):
    data = copied((1, 0))
    shutil.copy(tmp_path / "exact/000.png", tmp_path / "exact/003.png")
    data.prepare_data()
    assert data.provenance()["copies"] == {"images": 1, "learnt_from": {}, "allowed": False}


def test_every_image_is_hashed_once(copied, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        training_hashes, "hash_files", lambda paths: hashed.extend(paths) or hash_files(paths)
    )
    data = copied()
    data.prepare_data()
    data.setup("fit")
    found = training_hashes.training_hashes(data)["train_image_hashes"]
    used = [*map(data.train_dataset.path, range(len(data.train_dataset)))]
    used += [*map(data.val_dataset.path, range(len(data.val_dataset)))]
    assert found.numpy().view(np.uint64).tolist() == hash_files(used).tolist()
    assert len(hashed) == len({*hashed}) == len(data.table)


def test_a_photo_is_found_with_boxes_in_one_source_alone(copied, tmp_path):
    data = copied((0, 3))
    table = tmp_path / "races/faces.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},x,y,width,height", *(f"{row},1,1,20,20" for row in rows), ""]))
    boxed = [data.sources[0], source(tmp_path, "races")]
    with pytest.raises(DataError, match="1 test faces have the same bytes"):
        Mixture(boxed, image_size=64, num_workers=0).prepare_data()


def test_without_copies_nothing_is_noted(copied):
    data = copied()
    data.prepare_data()
    record = data.provenance()
    assert record["copies"] == {"images": 0, "learnt_from": {}, "allowed": False}
    assert not any("several sources" in note for note in record["notes"])
