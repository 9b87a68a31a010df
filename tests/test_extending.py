"""The recipe of docs/extending.md: its code is trained, tested, used and exported as it stands there."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from warm_process import run

from mtmsa_lightning import MTMSA, AgeEstimator, AgeHead, ClassHead, GaussianAge
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import read_checkpoint

RECIPE = Path(__file__).parents[1] / "docs" / "extending.md"
MODULE = "mylab"
FIT = [
    "fit", "--config=csv.yaml", f"--data={MODULE}.MyFaces", "--data.root=photos", "--data.image_size=64",
    "--data.protocol=subject_exclusive", "--data.num_workers=0", "--data.batch_size=8", "--name=mine",
    "--model.weights=null", f"--model.age={MODULE}.MLPHead", "--model.age.width=24", "--model.gender=null",
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu",
    "--wandb=disabled",
]  # fmt: skip
ALONE = ["--trainer.devices=1", "--trainer.strategy=auto"]


def program() -> str:
    """Return the Python code of the recipe's module."""
    blocks = re.findall(r"```python\n(.*?)```", RECIPE.read_text(), flags=re.DOTALL)
    return "\n\n".join(block for block in blocks if "class " in block)


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the module and some photos."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / f"{MODULE}.py").write_text(program())
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
    assert recorded["hyper_parameters"]["age"] == {"class_path": "mylab.MLPHead", "init_args": {"width": 24}}
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
        assert re.search(r"mylab\.(MLPHead|MyFaces) is not a class of this package", message)
        assert "--allow_classes mylab" in message
    with pytest.raises(CheckpointError, match=r"allow_classes=\['mylab'\]\), or import it before you load"):
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
        assert type(model.age).__module__ == MODULE
        assert model.age.layers[0].out_features == 24
        (face,) = AgeEstimator.from_pretrained(source, allow_classes=[MODULE], device="cpu")(
            np.zeros((64, 64, 3), np.uint8)
        )
        assert face.age.std > 0


@pytest.mark.slow
def test_a_class_that_was_imported_is_known(mine, here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    import mylab

    assert isinstance(MTMSA.load(str(mine)).age, mylab.MLPHead)
    main(["test", "--ckpt_path", str(mine), "--trainer.limit_test_batches=1", *ALONE])


@pytest.mark.slow
def test_folds_of_a_cross_validation_find_it_too(here):
    """They go by ``python -m``."""
    done = run("-m", "mtmsa_lightning", *FIT, "--print_config")
    assert done.poll() == 0, done.stdout + done.stderr
    assert "class_path: mylab.MLPHead" in done.stdout


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
