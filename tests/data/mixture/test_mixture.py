import pickle
from collections import Counter

import numpy as np
import pytest
from mixed_sources import RACES, SIZES, source

from mtmsa_lightning import Adience, Mixture
from mtmsa_lightning.data.training_hashes import image_hashes
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.labels import AGE_GROUPS


def test_every_face_is_that_of_its_source_with_labels_masked_where_it_has_none(mixture):
    data = mixture(augment=False)
    data.setup("fit")
    assert data.race_classes == ("Black", "East Asian", "white")
    assert data.age_groups == AGE_GROUPS
    for part in ("train", "val", "test"):
        joined, row = getattr(data, f"{part}_dataset"), 0
        for each in data.sources:
            own = each.dataset_of(each.split, part)
            for index in range(len(own)):
                ours, theirs = joined[row], own[index]
                assert ours["id"] == theirs["id"]
                assert (ours["image"] == theirs["image"]).all()
                for key in ("age_low", "age_high", "gender", "race"):
                    np.testing.assert_equal(ours[key], theirs[key], err_msg=key)
                assert joined.path(row) == own.path(index)
                row += 1
        assert row == len(joined)
        assert (image_hashes(joined) != 0).all()
    faces = [data.train_dataset[row] for row in range(len(data.train_dataset))]
    known = Counter((face["id"].partition("/")[0], face["race"] >= 0, face["gender"] >= 0) for face in faces)
    assert known == {("exact", False, False): 19, ("groups", False, True): 14, ("races", True, True): 11}
    pickle.dumps(data.train_dataset)


def test_races_of_several_sources_have_one_vocabulary(three_sources):
    sources = [source(three_sources, "exact"), source(three_sources, "races")]
    sources[0].race_classes = ("black", "Martian", "white")
    data = Mixture(sources, image_size=64, num_workers=0)
    assert data.race_classes == ("black", "Martian", "white", "East Asian")
    table, joined = sources[1].table.frame, data.table.frame
    for name in RACES:
        ours = {"Black": "black"}.get(name, name)
        own = (table["race"] == sources[1].race_classes.index(name)).sum()
        assert (joined["race"] == data.race_classes.index(ours)).sum() == own > 0


def test_age_statistics_and_hashes_are_of_all_sources(mixture):
    data = mixture()
    data.setup("fit")
    ages = [each.table.frame.iloc[each.split.train] for each in data.sources]
    middles = np.concatenate([((each["age_low"] + each["age_high"]) / 2).dropna() for each in ages])
    assert data.age_statistics() == pytest.approx((middles.mean(), middles.std()))


def test_the_provenance_has_that_of_every_source(mixture):
    data = mixture(weights={"exact": 2}, caps={"groups": 10})
    data.prepare_data()
    data.setup("fit")
    record = data.provenance()
    assert record["dataset"] == "exact+groups+races"
    assert record["labels"] == ["age", "exact", "gender", "group", "race"]
    assert [*record["sources"]] == [*SIZES]
    for each in data.sources:
        own = record["sources"][each.name]
        assert own | each.provenance() == own
        assert set(own["fingerprints"]) == {"train", "val", "test", "labels"}
    used = {name: own["faces_per_epoch"] for name, own in record["sources"].items()}
    assert used == {"exact": 38, "groups": 10, "races": 11}
    assert data.epoch_size == 59
    assert record["faces"] == {"train": 44, "val": 14, "test": 13, "calibration": 0}


def test_a_source_may_sample_its_own_faces_and_one_may_only_be_tested(three_sources):
    balanced = source(three_sources, "groups", sampler="balanced", balance_smoothing=0)
    tested = source(three_sources, "races")
    tested.protocol = "whole"
    data = Mixture([balanced, tested], image_size=64, batch_size=1, num_workers=0, weights={"groups": 3})
    data.setup("fit")
    keys = [*data.train_dataloader().batch_sampler.sampler]
    ages = Counter(data.train_dataset.table["age_low"][key.row] for key in keys)
    assert set(data.train_dataset.table["dataset"]) == {"groups"}
    assert len(keys) == 3 * 14
    assert max(ages.values()) - min(ages.values()) <= 2, "balanced"
    assert Counter(data.test_dataset.table["dataset"])["races"] == 17


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"exat": 1}}, "data.weights: there is no source 'exat' (did you mean 'exact'?)"),
        ({"weights": {"exact": 0}}, "data.weights: 0 of exact must be above 0"),
        ({"caps": {"races": 0}}, "data.caps: 0 of races must be at least 1"),
        ({"image_size": 8}, "data.image_size 8 is too small"),
    ],
)
def test_wrong_settings_are_named(mixture, settings, message):
    with pytest.raises(ConfigError) as error:
        mixture(**settings)
    assert message in str(error.value)


def test_sources_that_do_not_fit_together_are_refused(mixture, three_sources):
    exact = source(three_sources, "exact")
    with pytest.raises(ConfigError, match=r"data\.sources: is empty"):
        Mixture([])
    with pytest.raises(ConfigError, match="exact is the name of two sources"):
        Mixture([exact, source(three_sources, "exact")])
    with pytest.raises(ConfigError, match="a mixture cannot be a source"):
        Mixture([mixture()])
    with pytest.raises(ConfigError, match=r"exact has batch_size 7, but all sources share it: give data\."):
        Mixture([source(three_sources, "exact", batch_size=7)])
    other = source(three_sources, "groups")
    other.age_groups = ((0, 50), (51, 100))
    with pytest.raises(ConfigError, match="adience, groups have different age groups"):
        Mixture([Adience(root=str(three_sources)), other])
    with pytest.raises(ConfigError, match=r"have different age groups: choose .* --data\.age_groups adience"):
        Mixture([Adience(root=str(three_sources)), other])
    assert Mixture([Adience(root=str(three_sources)), other], age_groups="groups").age_groups[1] == (51, 100)
    with pytest.raises(ConfigError, match=r"data\.age_groups 'group' \(did you mean 'groups'\?\)"):
        Mixture([Adience(root=str(three_sources)), other], age_groups="group")
    tested = source(three_sources, "races")
    tested.protocol = "whole"
    with pytest.raises(ConfigError, match="no source has a train part"):
        Mixture([tested], image_size=64).setup("fit")
    data = mixture(augment_on="device")
    data.sources[0].image_size = 128
    with pytest.raises(ConfigError, match="needs sources with images of one size"):
        data.setup("fit")


def test_folds_that_the_sources_share_are_those_of_the_mixture(three_sources):
    def build(protocols, **settings):
        sources = [source(three_sources, name) for name in ("exact", "groups", "races")]
        for each, protocol in zip(sources, protocols, strict=True):
            each.protocol = protocol
        return Mixture(sources, image_size=64, num_workers=0, **settings)

    data = build(("random", "subject_exclusive", "train_all"))
    assert data.folds == (0, 1, 2, 3, 4)
    other = build(("random", "subject_exclusive", "train_all"), fold=3)
    assert other.split.fold == other.provenance()["fold"] == 3
    assert other.split.fingerprints == data.split_of(3).fingerprints != data.split.fingerprints
    tested = [data.split_of(fold).test for fold in data.folds]
    assert sorted(np.concatenate(tested)) == [*range(31 + 23)], "each face of two sources once"
    assert [each.split.fold for each in other.sources] == [3, 3, 0]
    with pytest.raises(ConfigError, match="races: protocol whole has one fold"):
        _ = build(("random", "subject_exclusive", "whole")).folds
    with pytest.raises(ConfigError, match="sources with several: exact 5, groups 12"):
        _ = build(("random", "leave_one_subject_out", "whole")).folds


def test_errors_name_their_source(three_sources, tmp_path):
    lost = source(three_sources, "groups")
    lost.root = tmp_path / "lost"
    other_fold = source(three_sources, "races", fold=7)
    for wrong, text in ((lost, "lost does not exist"), (other_fold, "has no fold 7")):
        data = Mixture([source(three_sources, "exact"), wrong], image_size=64, num_workers=0)
        with pytest.raises(DataError) as error:
            data.prepare_data()
        assert str(error.value).startswith(f"data.sources, {wrong.name}: ")
        assert text in str(error.value)
        assert "are its init_args in data.sources" in str(error.value)
        assert str(error.value).count("data.sources, ") == 1


def test_the_augmentation_of_the_mixture_applies_to_all_sources(mixture):
    plain, light, strong = (mixture(augment=name) for name in ("none", "light", "strong"))
    for data in (plain, light, strong):
        data.setup("fit")
    for row in np.flatnonzero(np.diff(plain.train_dataset.source, prepend=-1)):
        images = [data.train_dataset[int(row)]["image"] for data in (plain, light, strong)]
        assert (images[0] != images[1]).any()
        assert (images[1] != images[2]).any()
    with pytest.raises(ConfigError, match=r"exact has augment 'strong', but all sources share it"):
        Mixture([source(plain.sources[0].root.parent, "exact", augment="strong")])
