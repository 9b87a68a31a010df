"""The shipped configs train, test and continue with what they would choose on a GPU, forced on the CPU.

Each setting that follows the device can be given: `ON_GPU`, without the pinned memory that only GPUs have.
Compiled networks are tested in `test_speed_settings.py`.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.synthetic import write_adience, write_morph, write_utkface
from mtmsa_lightning.data.synthetic.releases import UTKFACE_RACES
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.settings.configs import SHIPPED

pytestmark = pytest.mark.slow

ON_GPU = (
    "--trainer.precision=bf16-mixed", "--model.channels_last=true", "--data.augment_on=device",
    "--model.optimizer.init_args.fused=true",
)  # fmt: skip
SMALL = (
    "--trainer.accelerator=cpu", "--trainer.devices=1", "--data.image_size=64",
    "--data.batch_size=4", "--data.num_workers=0", "--model.weights=null", "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--trainer.max_epochs=1",
    "--trainer.num_sanity_val_steps=0", "--wandb=disabled",
)  # fmt: skip
"""One process, 64 pixels and two steps an epoch."""

CASES = {
    "morph.yaml": None, "adience.yaml": None, "utkface.yaml": "budgets/gpu_128.yaml",
    "csv.yaml": "budgets/cpu_64.yaml", "demo.yaml": "devices/ddp.yaml",
}  # fmt: skip
"""Every config that trains at this size, and every override for a machine once."""

CONTINUED = ("morph.yaml", "utkface.yaml")
"""Without and with averaged weights: what else a continued run restores does not depend on the config."""


def write_table(root: Path, n_faces: int, seed: int, size: int) -> None:
    """Write the faces of another release with a table of one's own."""
    write_utkface(root, n_faces=n_faces, seed=seed, size=size)
    lines = ["path,age,gender,race,subject"]
    for number, file in enumerate(sorted(root.rglob("[0-9]*_[01]_[0-4]_*.jpg.chip.jpg"))):
        age, gender, race, _ = file.name.split("_")
        path, race = file.relative_to(root), UTKFACE_RACES[int(race)]
        lines.append(f"{path},{age},{'mf'[int(gender)]},{race},{number // 2}")
    (root / "faces.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty faces in the layout of each release, where the configs look for them."""
    folder = tmp_path_factory.mktemp("data")
    writers = {"morph": write_morph, "adience": write_adience, "utkface": write_utkface, "csv": write_table}
    for name, write in writers.items():
        write(folder / name, n_faces=40, seed=3, size=80)
    return folder


def test_every_machine_has_a_case():
    files = [file for folder in ("devices", "budgets") for file in (SHIPPED[1] / folder).glob("*.yaml")]
    machines = {str(file.relative_to(SHIPPED[1])) for file in files}
    assert machines == {*CASES.values()} - {None}


@pytest.mark.parametrize("name", CASES)
def test_a_config_with_the_settings_of_a_gpu(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MTMSA_DATA", str(data))
    before = dict(os.environ)
    run = tmp_path / "run"
    configs = [f"--config={file}" for file in (name, CASES[name]) if file]
    faces = ["--data.n_faces=40"] if name == "demo.yaml" else []
    args = [*configs, *SMALL, *ON_GPU, *faces, f"--run_dir={run}"]
    main(["fit", *args])
    if name in CONTINUED:
        main(["fit", *args, "--trainer.max_epochs=2"])
        main(["validate", *SMALL[:2], ON_GPU[0], f"--ckpt_path={run}", f"--run_dir={tmp_path / 'validated'}"])
        assert np.isfinite(read_record(tmp_path / "validated")["val"]["val/loss"])
    check_run(run, 2 if name in CONTINUED else 1)
    assert not {"LOCAL_RANK", "WORLD_SIZE", "MTMSA_RUN_DIR"} & (os.environ.keys() - before), "for later runs"


def check_run(run: Path, epochs: int) -> None:
    """Check that a run had the settings that it should have had, and learnt."""
    settings, record = yaml.safe_load((run / "config.yaml").read_text()), read_record(run)
    assert settings["trainer"]["gradient_clip_val"] == 5.0
    assert settings["model"]["optimizer"]["init_args"]["fused"] is settings["model"]["channels_last"] is True
    assert (record["precision"], record["epochs"]) == ("bf16-mixed", epochs)
    assert len(record.get("continued", [])) == epochs - 1
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * epochs
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert np.isfinite(pd.read_parquet(run / "predictions" / "test.parquet")["age_mean"]).all()
