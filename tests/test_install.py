"""The package away from the checkout: a wheel, and the editable install that runs these tests."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mtmsa_lightning
from mtmsa_lightning.settings.configs import find_config

CHECKOUT = Path(mtmsa_lightning.__file__).parents[1]


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=CHECKOUT)
    (file,) = out.glob("*.whl")
    return file


@pytest.mark.slow
def test_the_wheel_holds_configs_templates_and_type_marker_and_nothing_else_of_the_checkout(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for config in ("morph", "adience", "utkface", "csv", "demo"):
        assert f"mtmsa_lightning/experiments/{config}.yaml" in names
    assert "mtmsa_lightning/py.typed" in names
    for template in ("page.html", "app.html", "card.md", "style.css"):
        assert f"mtmsa_lightning/reports/templates/{template}" in names
    folders = {name.partition("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"mtmsa_lightning"}


@pytest.mark.slow
def test_an_installed_wheel_trains_the_demo_away_from_the_checkout(wheel, tmp_path):
    """The environment sees this one's dependencies: a fresh one would be 6 GB."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)  # all of its installation but the script
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(dependencies) + "\n")

    found = run(python, "-c", "import mtmsa_lightning; print(mtmsa_lightning.__file__)", cwd=tmp_path)
    assert found.startswith(str(site)), "the wheel, not the checkout"
    printed = run(
        python, "-m", "mtmsa_lightning", "fit", "--config", "demo.yaml", "--wandb", "disabled",
        "--data.n_faces", 60, "--data.num_workers", 0, "--trainer.max_epochs", 1, cwd=tmp_path,
    )  # fmt: skip
    assert f"config: {site / 'mtmsa_lightning' / 'experiments' / 'demo.yaml'}" in printed
    assert "constant guess" in printed.splitlines()[-1]
    assert (tmp_path / "data" / "synthetic" / "morph_2008_nonCommercial.csv").is_file()
    assert list(tmp_path.glob("runs/demo/*/checkpoints/best.ckpt"))


def test_an_editable_install_finds_the_checkouts_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("morph.yaml") == CHECKOUT / "experiments" / "morph.yaml"


def test_the_working_directory_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "morph.yaml").write_text("name: mine\n")
    assert find_config("morph.yaml").resolve() == tmp_path / "morph.yaml"


def test_all_promised_names_are_importable():
    promised = {
        "MTMSA", "MSAResNet", "MultiScaleAttention", "GaussianAgeHead", "ClassHead", "GaussianKLLoss",
        "MORPH", "Adience", "UTKFace", "FaceCSV", "Synthetic", "CrossEntropyAgeHead", "DLDLAgeHead",
        "DLDLv2AgeHead", "MeanVarianceAgeHead", "CoralAgeHead", "CornAgeHead", "L1AgeHead", "L2AgeHead",
    }  # fmt: skip
    assert promised <= set(mtmsa_lightning.__all__)
    for name in mtmsa_lightning.__all__:
        assert getattr(mtmsa_lightning, name).__name__ == name
