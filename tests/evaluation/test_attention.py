import numpy as np
import pandas as pd
import pytest
import torch

from mtmsa_lightning import MORPH, MTMSA, MSAConfig
from mtmsa_lightning.evaluation.attention import attend, spread_over_ages, up_to_each_decade


@pytest.fixture(scope="module")
def faces(morph_root):
    data = MORPH(root=str(morph_root), image_size=64, crop=1.0, num_workers=0)
    data.setup()
    return data.test_dataset


def build(msa):
    torch.manual_seed(0)
    model = MTMSA(msa=msa, race_classes=("white", "black"), image_size=64)
    for module in model.trunk.msa.values():
        torch.nn.init.normal_(module.expand.weight, std=0.1)  # it starts as the identity
    return model.eval()


def test_weights_are_means_over_channels_and_over_the_faces_of_a_decade(faces):
    model = build(MSAConfig(rates=(1, 2), stages=(1, 2), allow_gridding=True))
    seen = attend(model, faces, batch_size=4, min_faces=0)
    rows = []
    for row in range(len(faces)):  # one by one, by the trunk itself
        sample = faces[row]
        with torch.no_grad():
            image = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None]
            attended = model.trunk.attention(model.normalise(image))
        for stage, each in attended.items():
            shares = each.scale_weights[0].mean(dim=1).tolist()
            decade = int(sample["age_low"] // 10 * 10)
            rows += [(stage, rate, decade, share) for rate, share in zip((1, 2), shares, strict=True)]
    expected = pd.DataFrame(rows, columns=["stage", "rate", "decade", "weight"])
    expected = expected.groupby(["stage", "rate", "decade"])["weight"].agg(["mean", "size"]).reset_index()
    assert seen.weights[["stage", "rate", "decade"]].equals(expected[["stage", "rate", "decade"]])
    np.testing.assert_allclose(seen.weights["weight"], expected["mean"], atol=1e-6)
    assert seen.weights["faces"].tolist() == expected["size"].tolist()
    assert seen.weights.groupby(["stage", "decade"])["weight"].sum().to_numpy() == pytest.approx(1)
    few = seen.weights["faces"] < 3
    assert few.any()
    assert not few.all()
    weights = attend(model, faces, batch_size=4, min_faces=3).weights
    assert weights["weight"].isna().equals(few), "no metric of fewer faces than the minimum"
    assert weights["faces"].equals(seen.weights["faces"])


def test_maps_belong_to_the_faces_that_are_shown(faces):
    model = build(MSAConfig(rates=(1,), stages=(2,)))
    seen = attend(model, faces)
    assert list(seen.ages) == sorted(seen.ages)
    assert len(seen.ids) == len(seen.faces) == len(seen.maps[2]) == min(8, len(faces))
    table = faces.table.set_index("id")
    for name, age, face, gate in zip(seen.ids, seen.ages, seen.faces, seen.maps[2], strict=True):
        assert table["age_low"][name] == age
        image = torch.from_numpy(face).permute(2, 0, 1)[None]
        with torch.no_grad():
            alone = model.trunk.attention(model.normalise(image))[2].spatial_map[0]
        np.testing.assert_allclose(gate, alone, atol=1e-5)


@pytest.mark.parametrize(
    "msa", [None, MSAConfig(rates=(1, 2), stages=(2,), placement="in_blocks", allow_gridding=True)]
)
def test_there_is_nothing_to_see_without_attention_modules(faces, msa):
    assert attend(build(msa), faces) is None


def test_there_is_nothing_to_see_without_ages(faces, monkeypatch):
    monkeypatch.setattr(faces, "table", faces.table.assign(age_low=np.nan, age_high=np.nan))
    assert attend(build(MSAConfig(rates=(1,), stages=(1,))), faces) is None


def test_faces_are_spread_over_the_ages():
    ages = np.array([np.nan, 80, 20, 20, 20, 20, 50, 35, 65, np.nan])
    chosen = spread_over_ages(ages, 5)
    assert len(set(chosen)) == 5
    assert ages[chosen].tolist() == [20, 35, 50, 65, 80]
    assert spread_over_ages(np.array([np.nan, 30.0]), 8) == [1]


def test_each_decade_gives_no_more_than_its_share_and_always_the_same_faces():
    ages = np.concatenate([np.full(50, 25.0), np.full(3, 71.0), [np.nan]])
    chosen = up_to_each_decade(ages, 10)
    decades = ages[chosen] // 10
    assert ((decades == 2).sum(), (decades == 7).sum(), len(chosen)) == (10, 3, 13)
    assert chosen == up_to_each_decade(ages, 10)
