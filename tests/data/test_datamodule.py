"""The DataModules' common behaviour, on MORPH with small real images."""

import hashlib
import json
import logging
import shutil
import statistics
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import seed_everything

from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.data.augment.device import augment
from mtmsa_lightning.data.augment.params import AugmentationParamSampler
from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.data.baselines import midpoints
from mtmsa_lightning.data.datamodule import FaceDataModule, available_workers
from mtmsa_lightning.data.datasets.morph import MORPH, RACE_CLASSES, read_morph
from mtmsa_lightning.data.face_dataset import FaceBatch
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.prepared.pixels import PIXELS, write_pixels
from mtmsa_lightning.errors import ConfigError, DataError

SUBJECTS = 40
N = 3 * SUBJECTS  # one bad image is then less than a hundredth, two are more
HEADER = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"


def trainer_of(device: str = "cpu", **settings: int) -> SimpleNamespace:
    """What a DataModule reads of its Trainer."""
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), **settings)


def write_morph(root: Path) -> Path:
    rng = np.random.default_rng(0)
    (root / "Album2").mkdir(parents=True)
    lines = [HEADER]
    for subject in range(1, SUBJECTS + 1):
        gender, race = "MF"[subject % 2], "WBAHO"[subject % 5]
        for picture in range(3):
            age = 18 + subject + picture
            photo = f"Album2/{subject:06d}_{picture}{gender}{age}.JPG"
            lines.append(
                f"{subject},{picture},01/02/1960,03/04/{1960 + age},{race},{gender},,{age},,,{photo}"
            )
            coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            cv2.imwrite(str(root / photo), cv2.resize(coarse, (50, 60)))
    (root / "morph_2008_nonCommercial.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def shared_release(tmp_path_factory):
    return write_morph(tmp_path_factory.mktemp("shared") / "morph")


@pytest.fixture
def release(tmp_path):
    """A release of its own for tests that damage it."""
    return write_morph(tmp_path / "morph")


def morph(root: Path, **arguments: object) -> MORPH:
    settings = {"image_size": 64, "batch_size": 8, "num_workers": 0} | arguments
    return MORPH(root=str(root), **settings)


@pytest.fixture
def data(shared_release):
    data = morph(shared_release)
    data.prepare_data()
    data.setup("fit")
    return data


def prepare_crops(release: Path, root: Path, size: int = 72) -> Path:
    """Write square crops of a release as a prepared set with mapped pixels, its rows in another order."""
    table = read_morph(release)
    frame = table.frame.iloc[::-1].reset_index(drop=True)
    for path in frame["path"]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        crop = cv2.resize(cv2.imread(str(release / path)), (size, size), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / path), crop)
    frame.to_parquet(root / "faces.parquet")
    record = {
        "format_version": 1, "dataset": "morph", "label_rule": table.label_rule,
        "race_classes": list(RACE_CLASSES), "table": "faces.parquet",
        "pixels": write_pixels(root, frame["path"].tolist(), size),
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(record))
    return root


def prepare_set(release: Path, root: Path, race_classes: tuple[str, ...] = RACE_CLASSES) -> Path:
    """Write the table of a release as a prepared set, with links to its photos."""
    table = read_morph(release)
    root.mkdir()
    shutil.copytree(release / "Album2", root / "Album2")
    frame = table.frame.assign(race=table.frame["race"].clip(upper=len(race_classes) - 1))
    frame.to_parquet(root / "faces.parquet")
    record = {
        "format_version": 1, "dataset": "morph", "label_rule": table.label_rule,
        "race_classes": list(race_classes), "table": "faces.parquet",
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="module")
def crops(shared_release, tmp_path_factory):
    """A prepared set with mapped pixels."""
    return prepare_crops(shared_release, tmp_path_factory.mktemp("crops"))


class Made(FaceDataModule):
    """A table made up in the test; its images need not exist."""

    name = "made"
    protocols = ("predefined",)
    made: FaceTable

    def read(self) -> FaceTable:
        return self.made


def made(table: FaceTable) -> Made:
    Made.race_classes = table.race_classes
    data = Made(protocol="predefined", num_workers=0)
    data.made = table
    data.setup()
    return data


# ------------------------------------------------------------------ parts and loaders


def test_parts_are_disjoint_complete_and_share_no_subject(data):
    parts = [data.train_dataset.table, data.val_dataset.table, data.test_dataset.table]
    ids = [set(part["id"]) for part in parts]
    assert sum(map(len, ids)) == len(set.union(*ids)) == N
    subjects = [set(part["subject"]) for part in parts]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == SUBJECTS
    assert len(ids[2]) == pytest.approx(N / 5, abs=3)
    assert len(ids[1]) == pytest.approx(0.1 * (N - len(ids[2])), abs=3)


def test_only_training_images_are_augmented(data, shared_release):
    assert data.train_dataset.transform.augmentation is not None
    assert data.val_dataset.transform.augmentation is None
    assert data.test_dataset.transform.augmentation is None
    plain = morph(shared_release, augment=False)
    plain.setup()
    assert plain.train_dataset.transform.augmentation is None


def test_setup_is_repeated_by_lightning_and_keeps_the_datasets(data):
    before = data.train_dataset
    data.setup("test")
    assert data.train_dataset is before


def test_train_loader_has_every_face_at_most_once_in_full_batches(data):
    batches = list(data.train_dataloader())
    assert {tuple(batch["image"].shape) for batch in batches} == {(8, 3, 64, 64)}
    rows = torch.cat([batch["index"] for batch in batches]).tolist()
    assert len(set(rows)) == len(rows) == len(data.train_dataset) // 8 * 8


@pytest.mark.parametrize("part", ["val", "test"])
def test_evaluation_loaders_have_every_face_once_in_order(data, part):
    loader, dataset = getattr(data, f"{part}_dataloader")(), getattr(data, f"{part}_dataset")
    batches = list(loader)
    assert [name for batch in batches for name in batch["id"]] == dataset.table["id"].tolist()
    assert torch.cat([batch["age_low"] for batch in batches]).tolist() == dataset.table["age_low"].tolist()
    assert all(batch["valid"].all() for batch in batches)


def test_ranks_share_the_faces_of_a_trainer(data):
    seen = []
    for rank in range(2):
        data.trainer = trainer_of(world_size=2, global_rank=rank)
        seen.append({name for batch in data.test_dataloader() for name in batch["id"]})
    data.trainer = None
    assert set.union(*seen) == set(data.test_dataset.table["id"])
    assert len(seen[0] & seen[1]) <= 1  # padding


def test_a_protocol_without_a_test_part(shared_release):
    data = morph(shared_release, protocol="train_all")
    data.setup()
    assert len(data.train_dataset) + len(data.val_dataset) == N
    with pytest.raises(ConfigError, match="train_all has no test part"):
        data.test_dataloader()


def test_split_and_augmentation_obey_their_own_seed_alone(shared_release):
    def outcome(everything: int, seed: int) -> tuple[dict[str, str], bytes]:
        seed_everything(everything, verbose=False)
        data = morph(shared_release, seed=seed)
        data.setup()
        batch = next(iter(data.train_dataloader()))
        return data.split.fingerprints, batch["image"].numpy().tobytes()

    assert outcome(1, seed=0) == outcome(2, seed=0)
    assert outcome(1, seed=0)[0] != outcome(1, seed=1)[0]
    assert outcome(1, seed=0)[1] != outcome(1, seed=1)[1]


# ------------------------------------------------------------------ statistics and provenance


def test_age_statistics_are_those_of_the_training_part(data):
    ages = data.train_dataset.table["age_low"].tolist()
    expected = statistics.fmean(ages), statistics.pstdev(ages)
    assert data.age_statistics() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([0, 4, 8], [2, 6, 12], (16 / 3, statistics.pstdev([1, 5, 10]))),
        ([4, np.nan, 8], [6, np.nan, 12], (7.5, 2.5)),
        ([30, 30, 30], [30, 30, 30], (30, 1)),  # a deviation of zero could not scale anything
    ],
)
def test_age_statistics_of_groups_use_midpoints(face_table, low, high, expected):
    table = face_table(
        5, age_low=[*low, 99, 99], age_high=[*high, 99, 99], split=["train"] * 3 + ["val", "test"]
    )
    assert made(table).age_statistics() == pytest.approx(expected, rel=1e-12)
    assert midpoints(table.frame.iloc[3:]).tolist() == [99, 99]


def test_age_statistics_without_any_age(face_table):
    split = ["train", "val", "test"]
    table = face_table(3, age_low=[np.nan] * 3, age_high=[np.nan] * 3, split=split)
    with pytest.raises(DataError, match=r"no training face has an age.*model\.age null"):
        made(table).age_statistics()


def test_provenance_is_plain_and_complete(data):
    record = data.provenance()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    pipeline = json.loads(json.dumps(data.train_dataset.transform.augmentation.to_dict()))
    assert record.pop("augmentation") == {"name": "light", "pipeline": pipeline}
    assert record["fingerprints"] == data.split.fingerprints
    assert {key: value for key, value in record.items() if key != "fingerprints"} == {
        "dataset": "morph",
        "protocol": "subject_exclusive",
        "fold": 0,
        "split_seed": 0,
        "split_file": None,
        "label_rule": "morph table columns",
        "cleaning": [],
        "rows": {"read": N, "kept": N, "dropped": {}},
        "labels": ["age", "exact", "gender", "race"],
        "trained_classes": {"gender": ["male", "female"], "race": list(RACE_CLASSES)},
        "faces": {
            part: len(getattr(data, f"{part}_dataset")) for part in ("train", "val", "test", "calibration")
        },
        "subjects_in_two_parts": 0.0,
        "notes": [],
        "gender_classes": ["male", "female"],
        "race_classes": list(RACE_CLASSES),
        "age_groups": [],
        "image_size": 64,
        "crop": 0.85,
        "preparation": None,
        "sampling": {"sampler": "uniform"},
    }


def test_provenance_without_training_faces_is_still_json(shared_release):
    record = morph(shared_release, protocol="whole").provenance()
    assert record["subjects_in_two_parts"] is None
    assert record["labels"] == []
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_provenance_counts_dropped_rows(release):
    (release / "Album2/000001_0F19.JPG").unlink()
    rows = morph(release).provenance()["rows"]
    assert rows == {"read": N, "kept": N - 1, "dropped": {"file not found": 1}}


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("crop", 0), ("crop", -0.5), ("crop", 1.01), ("crop", 85), ("crop", float("nan")),
        ("val_fraction", -0.1), ("val_fraction", 1), ("val_fraction", 1.5),
        ("calibration_fraction", -0.1), ("calibration_fraction", 0.9), ("calibration_fraction", 1),
        ("image_size", 63), ("image_size", 0),
        ("batch_size", 0), ("batch_size", -1),
        ("augment_on", "gpu"), ("augment_on", True),
        ("sampler", "weighted"), ("balance_strength", 1.5), ("balance_strength", -1),
        ("balance_smoothing", -1), ("balance_smoothing", float("inf")),
        ("protocol", "folds"), ("protocol", "randm"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(tmp_path, argument, value):
    with pytest.raises(ConfigError, match=rf"{argument} '?{value}"):
        morph(tmp_path, **{argument: value})


def test_balanced_training_uses_rare_labels_more_often_in_epochs_of_the_same_length(shared_release):
    by = {"balance_by": ["gender", "race"], "balance_strength": 1}
    uniform, data = morph(shared_release), morph(shared_release, sampler="balanced", **by)
    assert data.provenance()["sampling"] == {
        "sampler": "balanced", "by": ["gender", "race"], "strength": 1, "smoothing": 2.0
    }  # fmt: skip
    for each in (uniform, data):
        each.setup("fit")
    assert len(data.train_dataloader()) == len(uniform.train_dataloader())
    frame = data.train_dataset.table
    common, rare = (frame.groupby(["gender", "race"]).size().agg(which) for which in ("idxmax", "idxmin"))
    uses = frame.assign(uses=data.sampling_weights(data.train_dataset)).groupby(["gender", "race"])["uses"]
    assert uses.sum()[rare] == pytest.approx(uses.sum()[common])
    assert uses.mean()[rare] > uses.mean()[common]


def test_a_wrong_column_to_balance_by_is_refused_before_training(shared_release):
    with pytest.raises(ConfigError, match="no column 'sex'"):
        morph(shared_release, sampler="balanced", balance_by=["sex"]).setup("fit")


def test_training_needs_a_validation_part_from_the_fraction_or_the_split(shared_release, tmp_path):
    data = morph(shared_release, val_fraction=0)
    data.setup("test")
    for stage in ("fit", "validate"):
        with pytest.raises(ConfigError, match=r"val_fraction 0 leaves .*--data.val_fraction 0.05"):
            data.setup(stage)
    parts = ["train", "val", "test"]
    rows = [f"{name},{parts[row % 3]}" for row, name in enumerate(data.table.frame["id"])]
    (tmp_path / "list.csv").write_text("\n".join(["id,split", *rows, ""]))
    listed = morph(
        shared_release, protocol="predefined", split_file=str(tmp_path / "list.csv"), val_fraction=0
    )
    listed.setup("fit")
    assert len(listed.val_dataset) == len(rows[1::3])


def test_a_bad_protocol_shows_the_good_ones(tmp_path):
    with pytest.raises(ConfigError, match="subject_exclusive, random, setting_a"):
        morph(tmp_path, protocol="randm")


def test_a_fold_that_does_not_exist(shared_release):
    with pytest.raises(DataError, match=r"no fold 5; its folds are \[0, 1, 2, 3, 4\]"):
        morph(shared_release, fold=5).prepare_data()


def test_a_missing_release_shows_the_expected_tree(tmp_path):
    with pytest.raises(DataError, match=r"(?s)does not exist.*expected:.*Album2/"):
        morph(tmp_path / "gone").prepare_data()


@pytest.mark.parametrize(
    ("variable", "expected"), [("/scratch/faces", "/scratch/faces/morph"), (None, "data/morph")]
)
def test_default_root(monkeypatch, variable, expected):
    monkeypatch.delenv("MTMSA_DATA", raising=False)
    if variable:
        monkeypatch.setenv("MTMSA_DATA", variable)
    assert MORPH().root == Path(expected)


def test_default_workers_follow_the_cores_that_this_process_may_use(monkeypatch):
    for cores, expected in ((1, 1), (6, 6), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert available_workers() == MORPH().num_workers == expected


def test_a_split_file_needs_its_protocol(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.split_file .*'predefined'.*'random'"):
        morph(tmp_path, protocol="random", split_file="list.csv")


# ------------------------------------------------------------------ prepared sets


@pytest.mark.parametrize("prepared", [False, True])
def test_a_split_file_splits_a_release(shared_release, tmp_path, prepared):
    ids = read_morph(shared_release).frame["id"].tolist()
    parts = ["train"] * 60 + ["val"] * 20 + ["test"] * 30
    file = tmp_path / "list.csv"
    file.write_text("\n".join(["id,split", *map(",".join, zip(ids, parts, strict=False))]))
    root = prepare_set(shared_release, tmp_path / "prepared") if prepared else shared_release
    data = morph(root, protocol="predefined", split_file=str(file))
    data.setup()
    assert data.train_dataset.table["id"].tolist() == ids[:60]
    assert data.val_dataset.table["id"].tolist() == ids[60:80]
    assert data.test_dataset.table["id"].tolist() == ids[80:110]
    record = data.provenance()
    assert record["split_file"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["rows"] == {"read": N, "kept": 110, "dropped": {"not in list.csv": 10}}
    assert record["label_rule"] == "morph table columns"


def test_a_prepared_set_is_used_as_it_is_and_not_cropped_again(shared_release, data, tmp_path):
    prepared = morph(prepare_set(shared_release, tmp_path / "prepared"), crop=0.85)
    prepared.setup()
    assert data.crop == data.train_dataset.transform.crop == 0.85
    assert prepared.crop == prepared.train_dataset.transform.crop == prepared.provenance()["crop"] == 1.0
    assert prepared.split.fingerprints == data.split.fingerprints


def test_a_prepared_set_with_other_race_classes(shared_release, tmp_path):
    root = prepare_set(shared_release, tmp_path / "prepared", race_classes=("white", "black"))
    with pytest.raises(DataError, match=r"race classes \('white', 'black'\) differ from MORPH's"):
        morph(root).prepare_data()


# ------------------------------------------------------------------ mapped pixels


def batches_of(data: MORPH, part: str, epoch: int = 0) -> list[FaceBatch]:
    """Load an epoch as the Trainer does."""
    loader = getattr(data, f"{part}_dataloader")()
    loader.sampler.set_epoch(epoch)
    arrived = (data.on_before_batch_transfer(batch, 0) for batch in loader)
    return [data.on_after_batch_transfer(batch, 0) for batch in arrived]


def assert_equal_images(actual: list[FaceBatch], expected: list[FaceBatch]) -> None:
    assert [batch["id"] for batch in actual] == [batch["id"] for batch in expected]
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_mapped_pixels_give_the_batches_of_the_files(crops, tmp_path, part):
    mapped = morph(crops)
    mapped.setup()
    assert mapped.train_dataset.pixels is not None
    files = morph(shutil.copytree(crops, tmp_path / "files", ignore=shutil.ignore_patterns(PIXELS)))
    files.setup()
    assert files.train_dataset.pixels is None
    assert_equal_images(batches_of(mapped, part), batches_of(files, part))


def test_mapped_pixels_are_found_whatever_part_of_the_table_is_used(crops, tmp_path):
    ids = read_morph_ids(crops)
    file = tmp_path / "list.csv"
    lines = [f"{name},{part}" for name, part in zip(ids[::3], ["train", "val", "test"] * N, strict=False)]
    file.write_text("\n".join(["id,split", *lines]))
    data = morph(crops, protocol="predefined", split_file=str(file), image_size=72)
    data.setup()
    for batch in batches_of(data, "test"):
        for name, image in zip(batch["id"], batch["image"], strict=True):
            expected = read_image(crops / name.removeprefix("morph/"))
            np.testing.assert_array_equal(image.permute(1, 2, 0), expected)


def read_morph_ids(crops: Path) -> list[str]:
    return pd.read_parquet(crops / "faces.parquet")["id"].tolist()


def test_pixels_of_another_set_stop_a_run(shared_release, tmp_path):
    root = prepare_crops(shared_release, tmp_path)
    pd.read_parquet(root / "faces.parquet").iloc[1:].to_parquet(root / "faces.parquet")
    with pytest.raises(DataError, match=r"pixels\.npy: it was written for other faces"):
        morph(root).setup()


# ------------------------------------------------------------------ augmentation on the device


@pytest.mark.parametrize("prepared", [True, False])
def test_the_loader_leaves_augmentation_to_the_device(shared_release, crops, prepared):
    data = morph(crops if prepared else shared_release, augment_on="device")
    data.setup()
    side = 72 if prepared else 73  # the store's; or 8/7 of 64
    raw = next(iter(data.train_dataloader()))
    assert (raw["image"].shape, raw["image"].dtype) == ((8, 3, side, side), torch.uint8)
    batch = data.on_after_batch_transfer(data.on_before_batch_transfer(raw, 0), 0)
    assert (batch["image"].shape, batch["image"].dtype) == ((8, 3, 64, 64), torch.float32)
    assert batch["augmentation"] is None
    sampler = AugmentationParamSampler(side, 64)
    draws = np.array([sampler(sample_seed(0, 0, int(row))) for row in batch["index"]], np.float32)
    assert torch.equal(batch["image"], augment(raw["image"], draws, 64))
    assert batch["id"] == raw["id"]


def test_evaluation_is_the_same_wherever_training_is_augmented(crops):
    device, cpu = morph(crops, augment_on="device"), morph(crops)
    plain = morph(crops, augment_on="device", augment=False)
    for data in (device, cpu, plain):
        data.setup()
    for part in ("val", "test"):
        assert_equal_images(batches_of(device, part), batches_of(cpu, part))
    assert all(batch["image"].dtype == torch.uint8 for batch in batches_of(plain, "train"))


def test_a_face_is_augmented_alike_on_cpu_and_device(crops):
    device, cpu = morph(crops, augment_on="device"), morph(crops)
    for data in (device, cpu):
        data.setup()
    for one, other in zip(batches_of(device, "train"), batches_of(cpu, "train"), strict=True):
        assert one["id"] == other["id"]
        assert (255 * one["image"] - other["image"]).abs().mean((1, 2, 3)).max() < 4


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_device_augmentation_depends_on_seed_epoch_and_face_alone(crops):
    """Not on workers, on ranks, or on the batch that a face comes in."""

    def images(epoch: int, seed: int = 0, ranks: int = 1, **arguments: int) -> dict[str, bytes]:
        data = morph(crops, augment_on="device", seed=seed, **arguments)
        data.setup()
        found = {}
        for rank in range(ranks):
            data.trainer = trainer_of(world_size=ranks, global_rank=rank)
            for batch in batches_of(data, "train", epoch):
                pairs = zip(batch["id"], batch["image"], strict=True)
                found |= {name: image.numpy().tobytes() for name, image in pairs}
        return found

    expected = images(epoch=1)
    for arguments in ({"num_workers": 2}, {"ranks": 2, "batch_size": 4}, {"batch_size": 5}):
        actual = images(epoch=1, **arguments)
        common = actual.keys() & expected
        assert len(common) > 40
        assert all(actual[name] == expected[name] for name in common)
    for other in (images(epoch=2), images(epoch=1, seed=1)):
        common = other.keys() & expected
        assert not any(other[name] == expected[name] for name in common)


# ------------------------------------------------------------------ unreadable images


def damage(data: MORPH, rows: list[int]) -> list[str]:
    """Overwrite photos of the test part and return their names."""
    files = [data.test_dataset.path(row) for row in rows]
    for file in files:
        file.write_text("no image")
    return [file.name for file in files]


def load_test_part(data: MORPH) -> list[FaceBatch]:
    """Load as the Trainer does."""
    return [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]


def test_one_bad_image_in_a_hundred_is_skipped_and_reported_once(release, caplog):
    data = morph(release)
    data.setup()
    (bad,) = damage(data, [3])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            batches = load_test_part(data)
            counted = torch.cat([batch["valid"] for batch in batches])
            assert (~counted).nonzero().tolist() == [[3]]
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "skipped" in warnings[0]
    assert bad in warnings[0]


def test_more_bad_images_stop_the_run_and_are_named(release):
    data = morph(release)
    data.setup()
    first, second = damage(data, [3, 5])
    with pytest.raises(DataError, match=rf"(?s)2 images could not be read.*verify.*{first}.*{second}"):
        load_test_part(data)


@pytest.mark.parametrize(("ranks", "stops"), [(1, False), (2, True)])
def test_bad_images_count_against_the_share_of_a_rank(release, ranks, stops):
    data = morph(release)
    data.setup()
    (bad,) = damage(data, [0])
    data.trainer = trainer_of(world_size=ranks, global_rank=0)
    if stops:
        with pytest.raises(DataError, match="1 image could not be read"):
            load_test_part(data)
    else:
        load_test_part(data)
    assert [(name.split("/")[-1], bad in fault) for name, fault in data.unreadable.items()] == [(bad, True)]


def test_a_rank_that_met_all_images_may_skip_a_hundredth_of_all(release):
    data = morph(release)
    data.setup()
    damage(data, [0])
    data.trainer = trainer_of(world_size=2, global_rank=0)
    data._seen.update(data.table.frame["id"])  # as after many shuffled epochs
    load_test_part(data)
    assert len(data.unreadable) == 1


def test_verify_names_bad_images_before_anything_starts(release):
    data = morph(release, verify=True)
    data.prepare_data()
    data.setup()
    first, second = damage(data, [1, 4])
    with pytest.raises(DataError, match=rf"(?s)2 of 120 images cannot be read:.*{first}.*{second}"):
        morph(release, verify=True).prepare_data()
    morph(release).prepare_data()


@pytest.mark.parametrize(
    ("device", "given", "pinned"),
    [("cuda", None, True), ("cpu", None, False), ("cuda", False, False), ("cpu", True, True)],
)
def test_batches_are_pinned_for_cuda_or_as_is_said(shared_release, device, given, pinned):
    data = morph(shared_release, pin_memory=given)
    data.setup()
    data.trainer = trainer_of(device, world_size=1, global_rank=0)
    assert {loader.pin_memory for loader in (data.train_dataloader(), data.val_dataloader())} == {pinned}
