"""The classes of docs/examples/mylab: trained, tested, used and exported as they stand there."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from warm_process import run

from mtmsa_lightning import MTMSA, AgeEstimator, AgeHead, ClassHead, GaussianAge, MSAConfig
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.models.weights import load_trunk_weights
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.run_json import read_record

MODULE = "mylab"
RECIPE = Path(__file__).parents[1] / "docs" / "examples" / MODULE
FIT = [
    "fit", "--config=csv.yaml", "--data=mylab.dataset.MyFaces", "--data.root=photos", "--data.image_size=64",
    "--data.protocol=subject_exclusive", "--data.num_workers=0", "--data.batch_size=8", "--name=mine",
    "--model.weights=null", "--model.age=mylab.head.MLPHead", "--model.age.width=24", "--model.gender=null",
    "--model.backbone=mylab.backbone.SmallTrunk",
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu",
    "--wandb=disabled",
]  # fmt: skip
ALONE = ["--trainer.devices=1", "--trainer.strategy=auto"]


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the modules and some photos."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(RECIPE, folder / MODULE, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        name = f"{20 + number}_s{number // 2}_{number}.jpg" if number else "nameless.jpg"
        cv2.imwrite(str(folder / "photos" / name), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def here(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with nothing of it imported yet or afterwards."""
    monkeypatch.chdir(lab)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(lab))])
    forget()
    yield lab
    forget()


@pytest.fixture(scope="module")
def mine(lab: Path) -> Path:
    """The run of the recipe on two processes, by the installed command, which DDP repeats for the second.

    The path of imports begins with the command's own folder.
    """
    ddp = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab)
        done = run(Path(sys.executable).parent / "mtmsa", *FIT, *ddp)
    assert done.poll() == 0, done.stdout + done.stderr
    (folder,) = (lab / "runs" / "mine").iterdir()
    return folder


@pytest.mark.slow
def test_it_is_recorded_by_its_name(mine):
    recorded = read_checkpoint(mine)
    assert recorded["hyper_parameters"]["age"] == {
        "class_path": "mylab.head.MLPHead",
        "init_args": {"width": 24},
    }
    assert recorded["hyper_parameters"]["backbone"] == "mylab.backbone.SmallTrunk"
    assert recorded["provenance"]["dataset"] == "myfaces"
    assert recorded["provenance"]["rows"]["dropped"] == {"the name does not begin with an age": 1}


@pytest.mark.slow
def test_without_the_users_word_it_says_what_to_type(mine, here, fails):
    # Before all tests that import the module: Python keeps its classes, which then count as imported.
    for args in (
        ["test"],
        ["predict", "photos", "--out", "ages.csv"],
        ["export", "--format", "safetensors"],
        ["calibrate"],
    ):
        message = fails(*args, "--ckpt_path", mine)
        assert re.search(r"mylab\.(head|dataset|backbone)\.\w+ is not a class of this package", message)
        assert "--allow_classes mylab" in message
    with pytest.raises(
        CheckpointError, match=r"allow_classes=\['mylab\.\w+'\]\), or import it before you load"
    ):
        MTMSA.load(str(mine))
    assert MODULE not in sys.modules


@pytest.mark.slow
def test_it_is_tested_used_and_exported(mine, here):
    allow = ["--ckpt_path", str(mine), "--allow_classes", MODULE]
    main(["test", *allow, *ALONE])
    main(["predict", *allow, "photos", "--out", "ages.csv", "--detect=false", "--overwrite=true"])
    assert len(pd.read_csv("ages.csv")) == 40
    main(["export", *allow, "--format", "safetensors", "--out", "folder"])
    main(["calibrate", *allow, "--part", "val", "--out", "calibrated.ckpt"])
    forget()
    for source in (mine, here / "folder", here / "calibrated.ckpt"):
        model = MTMSA.load(str(source), allow_classes=[MODULE])
        assert type(model.age).__module__ == "mylab.head"
        assert model.age.layers[0].out_features == 24
        (face,) = AgeEstimator.from_pretrained(source, allow_classes=[MODULE], device="cpu")(
            np.zeros((64, 64, 3), np.uint8)
        )
        assert face.age.std > 0


@pytest.mark.slow
def test_a_class_that_was_imported_is_known(mine, here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    from mylab import backbone, dataset, head

    model = MTMSA.load(str(mine))
    assert isinstance(model.age, head.MLPHead)
    assert isinstance(model.trunk, backbone.SmallTrunk)
    assert dataset.MyFaces.name == "myfaces"
    main(["test", "--ckpt_path", str(mine), "--trainer.limit_test_batches=1", *ALONE])


@pytest.mark.slow
def test_folds_of_a_cross_validation_find_it_too(here):
    """They go by ``python -m``."""
    done = run("-m", "mtmsa_lightning", *FIT, "--print_config")
    assert done.poll() == 0, done.stdout + done.stderr
    assert "class_path: mylab.head.MLPHead" in done.stdout


def test_own_augmentation_metric_and_logger(tiny_config, lab, here):
    """Also that the own metric chooses the best checkpoint."""
    own = [
        "--data.augment", "{class_path: mylab.augmentation.Fog, init_args: {most: 0.3}}",
        "--trainer.callbacks+=mylab.metric.LogMedianError", "--checkpoint.monitor=val/age_median_error",
        "--trainer.logger=mylab.logger.JSONLines", "--trainer.logger.file=log.jsonl",
    ]  # fmt: skip
    # in a process of its own: the parser would try to import the classes again in later tests
    fit = ["fit", "--config", tiny_config, "--trainer.max_epochs=1", "--run_dir=more"]
    done = run("-m", "mtmsa_lightning", *fit, *own)
    assert done.poll() == 0, done.stdout + done.stderr
    record = read_record(here / "more")
    logged = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    predicted = pd.read_parquet("more/predictions/test.parquet")
    errors = (predicted["age_mean_unclipped"] - predicted["label_age_low"]).abs()
    assert record["test"]["test/age_median_error"] == pytest.approx(errors.median(), abs=1e-4)
    assert record["monitor"] == "val/age_median_error"
    assert record["data"]["augmentation"]["pipeline"]["class_path"] == "mylab.augmentation.Fog"
    assert any("val/age_median_error" in line for line in logged)


def test_an_own_backbone_is_a_trunk(here, monkeypatch):
    """It has attention where the configuration says, and needs nothing that it does not have."""
    monkeypatch.syspath_prepend(here)
    from mylab.backbone import SmallTrunk

    model = MTMSA(backbone="mylab.backbone.SmallTrunk", msa=MSAConfig((1, 2), (1, 3)), image_size=64)
    assert isinstance(model.trunk, SmallTrunk)
    images = torch.rand(2, 3, 64, 64)
    maps = model.trunk.stage_maps(images)
    assert [tuple(each.shape[1:]) for each in maps] == [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]
    assert [*model.trunk.attention(images)] == [1, 3]
    stages = {name: stage for name, _, stage in model.trunk.pretrained_parameters()}
    assert {stage for name, stage in stages.items() if name.startswith("layer3")} == {3}
    assert not [name for name in stages if name.startswith("attentions")]
    with pytest.raises(CheckpointError, match="SmallTrunk has no weights imagenet"):
        load_trunk_weights(model.trunk, "imagenet")
    for setting in ({"last_stride": 1}, {"checkpoint_activations": True}):
        with pytest.raises(ConfigError, match=r"not to mylab\.backbone\.SmallTrunk"):
            MTMSA(backbone="mylab.backbone.SmallTrunk", **setting)


# ------------------------------------------------------------------------ what a head must record


class Forgetful(AgeHead):
    def __init__(self, in_features: int, width: int = 3) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(in_features, 2)

    def raw(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear(features)

    def distribution(self, raw: torch.Tensor) -> GaussianAge:
        return GaussianAge(raw[:, 0].double(), raw[:, 1].double().exp())

    def per_sample(self, raw: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return raw.sum(1)


class Inheriting(ClassHead):
    def __init__(self, in_features: int, num_classes: int, sharp: bool = False) -> None:
        super().__init__(in_features, num_classes)


class Opaque(Forgetful):
    def __init__(self, in_features: int, width: object = None) -> None:
        super().__init__(in_features)
        self.init_args = {"width": torch.ones(2)}


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ({"age": Forgetful}, "Forgetful: its init_args lack 'width'"),
        ({"gender": Inheriting}, r"lack 'sharp'.*hold 'dropout', no argument"),
        ({"age": Opaque}, "hold no plain value in 'width'"),
    ],
)
def test_a_head_that_could_not_be_built_again_is_refused(
    heads: dict[str, Callable[..., torch.nn.Module]], said: str
):
    with pytest.raises(ConfigError, match=said):
        MTMSA(msa=None, **heads)
