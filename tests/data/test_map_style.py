import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mtmsa_lightning import MORPH, AdienceDataset, MORPHDataset, SyntheticDataset
from mtmsa_lightning.data.synthetic import write_adience, write_morph
from mtmsa_lightning.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map") / "morph"
    write_morph(folder, n_faces=60, size=64)
    return folder


def test_parts_are_those_of_the_datamodule(root):
    data = MORPH(root=str(root), image_size=64, num_workers=0)
    data.setup()
    for split in ("train", "val", "test"):
        faces = MORPHDataset(root, split=split, image_size=64)
        assert faces.table["id"].tolist() == getattr(data, f"{split}_dataset").table["id"].tolist()
        assert len(faces) == len(faces.table)
    assert set(MORPHDataset(root, split="test", fold=1).table["id"]).isdisjoint(faces.table["id"])
    assert MORPHDataset(root, "train", protocol="random").protocol == "random"


def test_samples_are_tensors_that_collate_to_the_batches_of_the_datamodule(root):
    data = MORPH(root=str(root), image_size=64, num_workers=0, batch_size=4)
    data.setup()
    expected = next(iter(data.test_dataloader()))
    assert next(iter(data.predict_dataloader()))["id"] == expected["id"]
    batch = next(iter(DataLoader(MORPHDataset(root, split="test", image_size=64), batch_size=4)))
    for name in ("image", "age_low", "age_high", "gender", "race"):
        assert batch[name].dtype == expected[name].dtype
        assert torch.equal(batch[name], expected[name])
    assert batch["id"] == expected["id"]


def test_a_transform_gets_the_image(root):
    faces = MORPHDataset(root, image_size=64, transform=lambda image: image.float() / 255)
    plain = MORPHDataset(root, image_size=64)
    assert torch.equal(faces[-1]["image"], plain[len(plain) - 1]["image"].float() / 255)
    with pytest.raises(IndexError):
        plain[len(plain)]


def test_a_plot_shows_the_image_and_its_labels(root):
    faces = MORPHDataset(root, image_size=64)
    sample = faces[0]
    (axes,) = faces.plot(sample).axes
    (image,) = axes.images
    assert np.array_equal(image.get_array(), sample["image"].permute(1, 2, 0))
    row = faces.table.iloc[0]
    assert axes.get_title() == ", ".join(
        [f"{row.age_low:.0f} years", ("male", "female")[row.gender], faces.race_classes[row.race]]
    )
    missing = {"age_low": torch.tensor(np.nan), "age_high": torch.tensor(np.nan), "gender": -1, "race": -1}
    assert faces.plot(sample | missing).axes[0].get_title() == "no labels"


def test_the_repr_says_what_it_is(root):
    faces = MORPHDataset(root, split="val", image_size=64)
    assert repr(faces).splitlines() == [
        "Dataset MORPHDataset",
        f"    Number of faces: {len(faces)}",
        f"    Root location: {root}",
        "    Split: val (protocol subject_exclusive, fold 0)",
        "    Labels: exact, gender, race",
    ]


def test_arguments_of_the_release_are_passed_on(tmp_path):
    write_adience(tmp_path / "adience", n_faces=60, size=64)
    faces = AdienceDataset(tmp_path / "adience", split="test", fold=2, label_rule="extended", image_size=64)
    assert (faces.table["fold"] == 2).all()
    assert "-" in faces.plot(faces[0]).axes[0].get_title()
    drawn = SyntheticDataset(tmp_path / "drawn", split="train", n_faces=60, image_size=64)
    assert 0 < len(drawn) < 60


def test_errors_say_what_is_wrong(root, tmp_path):
    with pytest.raises(ConfigError, match="split 'dev' must be one of train, val, test, calibration"):
        MORPHDataset(root, split="dev")
    with pytest.raises(ConfigError, match="MORPHDataset takes no num_workers, augment: give "):
        MORPHDataset(root, num_workers=2, augment=False)
    with pytest.raises(DataError, match="expected:"):
        MORPHDataset(tmp_path / "nothing")
    copy = tmp_path / "copy"
    write_morph(copy, n_faces=60, size=64)
    faces = MORPHDataset(copy, image_size=64)
    (copy / faces.table["path"][0]).write_bytes(b"no image")
    with pytest.raises(DataError, match=faces.table["path"][0]):
        faces[0]
