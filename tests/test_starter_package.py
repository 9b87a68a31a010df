"""The distribution in ``weights/starter``: how it is made and installed, and the network once it is there."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import narrow_network
import numpy as np
import pytest
import torch

from mtmsa_lightning import MTMSA, AgeEstimator
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.pretrained import is_pretrained
from mtmsa_lightning.runs.starter import NETWORK, PACKAGE

ROOT = Path(__file__).parents[1]
DISTRIBUTION = ROOT / "weights" / "starter"
SHIPPED = DISTRIBUTION / PACKAGE / NETWORK
PORTRAIT = ROOT / "docs" / "portrait.jpg"


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(DISTRIBUTION / "make.py"))


@pytest.fixture(scope="module")
def run(trained, calibration, tmp_path_factory) -> Path:
    """The trained run with a calibration, as if it had been fitted on faces held out for it."""
    run = Path(shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "run"))
    fitted_on = calibration.fitted_on | {"fingerprint": "00", "split_seed": 0}
    checkpoint = read_checkpoint(run) | {"calibration": replace(calibration, fitted_on=fitted_on).to_dict()}
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    return run


@pytest.mark.slow
def test_it_is_made_from_a_run_with_its_figures_in_the_card(run, script, tmp_path, undrawn):
    script["make"](run, target=tmp_path / "network")
    card = (tmp_path / "network" / "README.md").read_text()
    mae = json.loads((run / "evaluation" / "metrics.json").read_text())["scalars"]["age_mae"]
    assert f"| age MAE (years) | {mae:.2f} | " in card
    for section in ("Intended use", "Subgroups", "Who it is wrong for", "Calibration", "Licence"):
        assert f"\n## {section}\n" in card
    assert "`network`: safetensors, fp16." in card
    assert "Metrics by group are not recorded" not in card
    checkpoint, stored = read_checkpoint(run), read_checkpoint(tmp_path / "network")
    for name, values in stored["state_dict"].items():
        assert torch.allclose(values, checkpoint["state_dict"][name], rtol=2**-11, atol=2**-25), name
    hashes = checkpoint["provenance"]["train_id_hashes"]
    assert torch.equal(stored["provenance"]["train_id_hashes"], hashes), "tests on its faces are refused"
    assert stored["calibration"] == checkpoint["calibration"]


def lacking(checkpoint: dict, **changes: object) -> dict:
    return checkpoint | {"provenance": checkpoint["provenance"] | changes}


def test_a_run_whose_figures_would_not_be_known_is_refused(run, trained, script, tmp_path):
    file, check = run / "checkpoints" / "best.ckpt", script["check"]
    checkpoint = read_checkpoint(run)
    check(file, checkpoint)
    faces = checkpoint["provenance"]["faces"] | {"test": 0}
    on_validation = checkpoint["calibration"]["fitted_on"] | {"chose_checkpoint": True}
    for changed, message in (
        (checkpoint | {"calibration": None}, "not calibrated: first `mtmsa calibrate --ckpt_path"),
        (checkpoint | {"calibration": {"fitted_on": on_validation}}, "calibrated on the validation faces"),
        (lacking(checkpoint, faces=faces), "no faces were held out for a test"),
        (lacking(checkpoint, train_id_hashes=None), "no hashes of its training faces"),
    ):
        with pytest.raises(CheckpointError, match=message):
            check(file, changed)
    with pytest.raises(SystemExit, match=r"error: .*best\.ckpt: not calibrated"):
        script["main"]([str(trained)])
    with pytest.raises(CheckpointError, match="in no run"):
        check(Path(shutil.copy(file, tmp_path / "best.ckpt")), checkpoint)


@pytest.fixture(params=["with weights", "without weights"])
def checkout(request, starter, tmp_path) -> tuple[Path, bool]:
    """What of a checkout concerns the starter, and whether it has weights."""
    there = request.param == "with weights"
    shutil.copytree(DISTRIBUTION, tmp_path / "weights/starter", ignore=shutil.ignore_patterns(NETWORK))
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    if there:
        shutil.copytree(starter, tmp_path / "weights/starter" / PACKAGE / NETWORK)
    return tmp_path, there


def run_in(folder: Path, *command: object) -> str:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_setup_installs_it_where_it_has_weights(checkout):
    folder, there = checkout
    lines = run_in(folder, "make", "-n", "setup").splitlines()
    installs = [line for line in lines if "weights/starter" in line]
    assert len(installs) == there
    assert all("--no-index" in line and "--no-build-isolation" in line for line in installs), "no network"
    assert not lines[-1].startswith("touch .venv/.starter") or there


@pytest.mark.slow
@pytest.mark.parametrize("checkout", ["with weights"], indirect=True)
def test_its_wheel_holds_the_network_and_its_terms(checkout, tmp_path):
    folder, _ = checkout
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist"]
    run_in(folder, *build, folder / "weights/starter")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if ".dist-info/" in name}
    network = ("config.json", "model.safetensors", "trained_on.safetensors", "README.md")
    assert names - info == {f"{PACKAGE}/__init__.py", *(f"{PACKAGE}/{NETWORK}/{name}" for name in network)}
    assert any(name.endswith("/licenses/LICENSE") for name in info)


def test_the_portrait_is_that_of_scikit_image(portrait):
    stored = cv2.imread(str(PORTRAIT))[..., ::-1].astype(int)
    shown = cv2.resize(portrait[:300, 75:375], (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(stored - shown).mean() < 5
    assert PORTRAIT.stat().st_size < 30_000


# ---------------------------------------------------------------- once its weights are there


if is_pretrained(SHIPPED):

    def test_the_shipped_network_is_small_calibrated_and_says_nothing_of_where_it_was_made():
        assert (SHIPPED / "model.safetensors").stat().st_size < 45_000_000
        with narrow_network.full_width():
            model = MTMSA.load(SHIPPED)
        assert model.calibration is not None
        faces = model.provenance["faces"]
        assert len(model.provenance["train_id_hashes"]) == faces["train"] + faces["val"]
        for name in ("config.json", "README.md"):
            text = (SHIPPED / name).read_text()
            assert not re.search(r"(?<![\w:/.])/\w+/\w", text), f"{name}: a path of the machine"
        card = (SHIPPED / "README.md").read_text()
        assert "non-commercial" in card
        assert "These metrics" not in card, "they are of this network and its calibration"
        (face,) = AgeEstimator(model, device="cpu")(str(PORTRAIT))
        assert 18 < face.age.mean < 60
        assert face.gender.name == "female"
