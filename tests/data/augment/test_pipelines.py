"""Pipelines that this package did not write: whatever they are, pixels are a function of the seed alone."""

import json
import random
import sys

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
import yaml
from torchvision.transforms import v2

from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.augment.pipelines import build_augmentation, describe_augmentation
from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.data.dataloader import face_loader
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.samplers import TrainSampler
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.settings.class_paths import allowing, parsing


class TorchvisionJitter:
    """A user's class that draws from torch's global generator."""

    def __init__(self, strength: float = 0.5) -> None:
        self.change = v2.Compose(
            [v2.RandomResizedCrop(48), v2.ColorJitter(strength), v2.RandomErasing(), v2.RandomRotation(20)]
        )

    def __call__(self, image):
        return self.change(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()


class GlobalNoise:
    """A user's class that draws from the global states of Python and NumPy, and overwrites its argument."""

    def __call__(self, image):
        image[:] = np.clip(image + np.random.normal(0, 20, image.shape), 0, 255)  # noqa: NPY002
        return image if random.random() < 0.5 else image[:, ::-1]


class Fog(A.ImageOnlyTransform):
    """A user's transform of albumentations."""

    def __init__(self, most: float = 0.5, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.most = most

    def apply(self, img, **params):
        amount = self.py_random.uniform(0, self.most)
        return np.uint8(img * (1 - amount) + 255 * amount)

    def get_transform_init_args_names(self):
        return ("most",)


class OwnGenerator:
    """Its generator is not set by the sample's seed."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, image):
        return np.roll(image, self.rng.integers(100), 0)


HERE = __name__
NESTED = [
    {"class_path": "albumentations.RandomCrop", "init_args": {"height": 50, "width": 40}},
    {
        "class_path": "OneOf",
        "init_args": {
            "transforms": [
                {"class_path": "albumentations.GaussNoise", "init_args": {"std_range": [0.1, 0.3], "p": 1}},
                {"class_path": "CoarseDropout", "init_args": {"num_holes_range": [2, 9], "p": 1}},
                {"class_path": f"{HERE}.Fog", "init_args": {"most": 0.7}},
            ],
            "p": 0.9,
        },
    },
    {"class_path": "albumentations.ElasticTransform"},
]
BORROWED = A.Compose(
    [
        A.RandomResizedCrop((64, 64), scale=(0.3, 1)),
        A.SomeOf([A.RandomRain(p=1), A.RandomSunFlare(p=1), A.Posterize(p=1), A.GridDistortion(p=1)], n=2),
        A.Sequential([A.PixelDropout(p=1), A.ChannelShuffle(p=0.5)], p=0.5),
        A.OneOrOther(A.MotionBlur(p=1), A.ISONoise(p=1)),
    ],
    seed=5,
)  # a pipeline may bring a seed of its own
PIPELINES = {
    "nested steps": NESTED,
    "albumentations": BORROWED,
    "to_dict": BORROWED.to_dict(),
    "one step": {"class_path": "albumentations.Affine", "init_args": {"rotate": [-90, 90], "p": 1}},
    "own transform": f"{HERE}.Fog",
    "torchvision": {"class_path": f"{HERE}.TorchvisionJitter", "init_args": {"strength": 0.9}},
    "global states": GlobalNoise(),
    "function": lambda image: np.rot90(image, random.randrange(4)),
    "strong": "strong",
}


def photo(height=120, width=90):
    coarse = np.random.default_rng(0).integers(30, 226, (10, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(params=PIPELINES, name="setting")
def _setting(request):
    return PIPELINES[request.param]


# ------------------------------------------------------------------ random states


def test_pixels_are_a_function_of_the_seed_whatever_the_order(setting):
    transform, other = (FaceTransform(64, augment=build_augmentation(setting)) for _ in range(2))
    image = photo()
    image.flags.writeable = False  # as rows of a memory-mapped array are
    expected = [transform(image, seed) for seed in range(20)]
    for seed in np.random.default_rng(1).permutation(20).tolist():
        np.testing.assert_array_equal(other(image, seed), expected[seed])
    assert {image.shape for image in expected} == {(64, 64, 3)}
    assert len({image.tobytes() for image in expected}) > 3


def test_global_random_states_are_restored(setting):
    transform = FaceTransform(64, augment=build_augmentation(setting))

    def draws():
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        transform(photo(), 3)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    first = draws()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert first == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", ["nested steps", "albumentations", "torchvision", "global states"])
def test_batches_depend_on_neither_workers_nor_ranks(name, tmp_path, face_table):
    for row in range(9):
        cv2.imwrite(str(tmp_path / f"{row:05d}.jpg"), photo())
    augmentation = build_augmentation(PIPELINES[name])
    dataset = FaceDataset(face_table(9).frame, tmp_path, FaceTransform(64, augment=augmentation), seed=4)

    def images(epoch, workers, ranks=1):
        found = {}
        for rank in range(ranks):
            sampler = TrainSampler(dataset, 3, 4, ranks, rank)
            sampler.set_epoch(epoch)
            for batch in face_loader(dataset, sampler, 3, workers):
                found |= dict(zip(batch["id"], batch["image"].numpy(), strict=True))
        return found

    for epoch in (0, 1):
        whole = images(epoch, 0)
        for workers, ranks in ((2, 1), (0, 3), (1, 3)):
            for face, image in images(epoch, workers, ranks).items():
                np.testing.assert_array_equal(image, whole[face])
    transform = FaceTransform(64, augment=build_augmentation(PIPELINES[name]))
    expected = transform(
        cv2.cvtColor(cv2.imread(str(tmp_path / "00002.jpg")), cv2.COLOR_BGR2RGB), sample_seed(4, 1, 2)
    )
    np.testing.assert_array_equal(whole["made/00002.jpg"].transpose(1, 2, 0), expected)


# ------------------------------------------------------------------ forms of the setting


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_file_of_albumentations_equals_its_pipeline(form, tmp_path):
    file = tmp_path / f"pipeline.{form}"
    A.save(BORROWED, str(file), form)
    ours, loaded = (FaceTransform(64, augment=build_augmentation(each)) for each in (BORROWED, str(file)))
    for seed in range(10):
        np.testing.assert_array_equal(loaded(photo(), seed), ours(photo(), seed))


def test_a_file_may_hold_steps(tmp_path):
    (tmp_path / "steps.yaml").write_text(yaml.safe_dump(NESTED))
    ours, loaded = (
        FaceTransform(64, augment=build_augmentation(each)) for each in (NESTED, str(tmp_path / "steps.yaml"))
    )
    np.testing.assert_array_equal(loaded(photo(), 7), ours(photo(), 7))


def test_steps_equal_the_pipeline_that_they_describe():
    steps = [
        {"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 0.5}},
        {"class_path": "GaussNoise", "init_args": {"std_range": [0.1, 0.2]}},
    ]
    written = A.Compose([A.HorizontalFlip(p=0.5), A.GaussNoise(std_range=(0.1, 0.2))])
    ours, theirs = (FaceTransform(64, augment=build_augmentation(each)) for each in (steps, written))
    for seed in range(10):
        np.testing.assert_array_equal(ours(photo(), seed), theirs(photo(), seed))


@pytest.mark.parametrize(
    ("setting", "name"), [(True, "light"), (False, "none"), (None, "none"), ("light", "light")]
)
def test_booleans_are_presets(setting, name):
    assert build_augmentation(setting) == name


def test_images_are_resized_after_the_pipeline():
    transform = FaceTransform(32, augment=build_augmentation(A.Compose([A.HorizontalFlip(p=1)])))
    np.testing.assert_array_equal(transform(photo(96, 96)), FaceTransform(32)(photo(96, 96)[:, ::-1]))


def test_an_image_that_a_step_refuses_is_named_with_its_size():
    transform = FaceTransform(64, augment=build_augmentation([{"class_path": "RandomCrop", "init_args": {
        "height": 200, "width": 200}}]))  # fmt: skip
    assert transform(np.zeros((220, 220, 3), np.uint8)).shape == (64, 64, 3)
    with pytest.raises(
        ConfigError, match=r"data\.augment fails on an image of 180 x 180 pixels: CropSizeError"
    ):
        transform(np.zeros((180, 190, 3), np.uint8))


# ------------------------------------------------------------------ record


def test_the_record_is_plain_and_rebuilds_the_pipeline(setting):
    built = build_augmentation(setting)
    record = describe_augmentation(setting, built, 64)
    assert json.loads(json.dumps(record)) == record
    if isinstance(setting, str) and setting == "strong":
        assert record["name"] == "strong"
        assert record["pipeline"]["transform"]["transforms"][-1]["__class_fullname__"] == "Erasing"
    elif not callable(setting) or isinstance(setting, A.Compose):
        again = FaceTransform(64, augment=build_augmentation(record["pipeline"]))
        for seed in range(5):
            np.testing.assert_array_equal(
                again(photo(), seed), FaceTransform(64, augment=built)(photo(), seed)
            )
    else:
        assert record["pipeline"]["class_path"].startswith((HERE, "builtins.function"))


def test_no_augmentation_is_recorded_by_its_name():
    assert describe_augmentation(False, build_augmentation(False), 64) == {"name": "none"}


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stron", r"data.augment 'stron': give a preset \(none, light, strong\), a file"),
        ("gone.json", r"data.augment gone.json: cannot be read: .*No such file"),
        (3, r"data.augment 3: give a preset"),
        ({"class": "Blur"}, r"give a class_path and init_args"),
        ([{"class_path": "albumentations.HorizontalFlop"}], r"no transform 'HorizontalFlop' \(Horiz"),
        ([{"class_path": "Blur", "init_args": {"q": 1}}], r"data.augment, Blur: .*'q'"),
        ([{"class_path": "Blur", "init_args": {"p": 7}}], r"data.augment, Blur: .*"),
        ({"transform": {"__class_fullname__": "Blurr"}}, r"has no transform 'Blurr' \(Blur"),
        ({"transform": {"__class_fullname__": "Blur", "z": 1, "p": 1}}, r"data.augment, pipeline: .*'z'"),
        ("nolab.Fog", r"data.augment: the class nolab.Fog cannot be imported: No module named 'nolab'"),
        (f"{HERE}.photo", r"is not a class"),
        ({"class_path": f"{HERE}.GlobalNoise", "init_args": {"x": 1}}, r"init_args of .*GlobalNoise: .*'x'"),
        ([{"class_path": f"{HERE}.GlobalNoise"}], r"GlobalNoise is not a transform of albumentations: der"),
        (A.Compose([A.Normalize()]), r"returns float32 of shape \(256, 256, 3\).*steps such as Normalize"),
        (A.Compose([A.Crop(0, 0, 900, 900)]), r"a trial on an image failed"),
        (lambda image: image[..., 0], r"returns uint8 of shape \(256, 256\)"),
        (lambda _: None, r"returns NoneType of shape \(\)"),
        (OwnGenerator(), r"two calls with one seed return different images: draw random numbers in the call"),
    ],
)  # fmt: skip
def test_wrong_settings_are_explained(setting, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        build_augmentation(setting)


def test_a_damaged_file_is_named(tmp_path):
    for name, text in (("a.json", "{"), ("b.yaml", "a: [")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}: cannot be read"):
            build_augmentation(str(tmp_path / name))
    (tmp_path / "c.yaml").write_text("words")
    with pytest.raises(ConfigError, match=r"c\.yaml: has no pipeline"):
        build_augmentation(str(tmp_path / "c.yaml"))


def test_an_error_in_the_users_code_keeps_its_traceback():
    def broken(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_augmentation(broken)


FILES_OF_OTHERS = [
    "otherlab.Fog",
    [{"class_path": "otherlab.Fog"}],
    [{"class_path": "OneOf", "init_args": {"transforms": [{"class_path": "otherlab.Fog"}]}}],
    {"transform": {"__class_fullname__": "Compose", "transforms": [{"__class_fullname__": "otherlab.Fog"}]}},
]


@pytest.mark.parametrize("setting", FILES_OF_OTHERS)
def test_settings_that_came_with_a_checkpoint_import_nothing(setting, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "otherlab.py").write_text("raise SystemExit('imported')")
    message = r"otherlab\.Fog is not a class of this package.*--allow_classes"
    with pytest.raises(CheckpointError, match=message), parsing(["run/config.yaml"]):
        build_augmentation(setting)
    assert "otherlab" not in sys.modules


def test_settings_that_came_with_a_checkpoint_may_use_albumentations_and_allowed_classes(tmp_path):
    with parsing(["run/config.yaml"]):
        assert len(build_augmentation([{"class_path": "albumentations.Blur"}]).transforms) == 1
    with allowing([HERE]), parsing(["run/config.yaml"]):
        build_augmentation({"class_path": f"{HERE}.TorchvisionJitter"})
