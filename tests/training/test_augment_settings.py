"""Augmentation and sampling from the command line, and in everything that a run records."""

import albumentations
import pytest
import torch
import yaml

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.datasets.morph import MORPH
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.lightning_cli import UnstartedCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command

LAB = """
import numpy as np

class Shift:
    def __init__(self, most=5):
        self.most = most

    def __call__(self, image):
        return np.roll(image, np.random.randint(-self.most, self.most + 1), 1)
"""


@pytest.fixture
def fit(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", f"--run_dir={tmp_path / 'run'}"]
    return lambda *args: main(["fit", "--config", str(tiny_config), *options, *args])


def test_a_pipeline_from_a_file_is_part_of_config_checkpoint_and_record(fit, tmp_path):
    pipeline = albumentations.Compose([albumentations.MotionBlur(p=0.3), albumentations.Rotate((-5, 5))])
    albumentations.save(pipeline, "pipeline.json")
    fit("--data.augment=pipeline.json", "--data.sampler=balanced", "--data.balance_strength=0.5")
    (tmp_path / "pipeline.json").unlink()
    run, expected = tmp_path / "run", {"name": "own", "pipeline": albumentations.to_dict(pipeline)}
    settings = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    plain = yaml.safe_load(yaml.safe_dump(settings["augment"]))
    assert repr(albumentations.from_dict(plain)) == repr(pipeline)
    assert (settings["sampler"], settings["balance_strength"]) == ("balanced", 0.5)
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    for record in (read_record(run)["data"], checkpoint["provenance"]):
        assert repr(albumentations.from_dict(record["augmentation"]["pipeline"])) == repr(pipeline)
        assert record["augmentation"]["name"] == expected["name"]
        assert record["sampling"] == {
            "sampler": "balanced", "by": ["age"], "strength": 0.5, "smoothing": 2.0
        }  # fmt: skip
    assert {"test/age_mae", "test/age_balanced_mae"} <= set(read_record(run)["test"])
    main(["test", "--ckpt_path", str(run), "--run_dir", str(tmp_path / "test")])


def test_a_class_of_the_user_trains_and_needs_permission_when_it_comes_with_a_checkpoint(fit, tmp_path):
    (tmp_path / "shiftlab.py").write_text(LAB)
    fit("--data.augment", "{class_path: shiftlab.Shift, init_args: {most: 9}}")
    run = tmp_path / "run"
    setting = {"class_path": "shiftlab.Shift", "init_args": {"most": 9}}
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["augment"] == setting
    assert read_record(run)["data"]["augmentation"] == {"name": "own", "pipeline": setting}
    again = ["--ckpt_path", str(run), "--run_dir", str(tmp_path / "test")]
    with pytest.raises(CheckpointError, match=r"shiftlab\.Shift is not .*--allow_classes shiftlab"):
        run_trainer_command("test", again, UnstartedCLI)
    main(["test", *again, "--allow_classes", "shiftlab"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.augment=medium"], r"data\.augment 'medium': give a preset \(none, light, strong\)"),
        (["--data.augment=[{class_path: Blurr}]"], r"has no transform 'Blurr' \("),
        (["--data.augment=[{class_path: Normalize}]"], r"returns float32 .*remove steps such as Normalize"),
        (
            ["--data.augment=[{class_path: Blur}]", "--data.augment_on=device"],
            r"data\.augment_on 'device' applies presets only",
        ),
        (["--data.balance_strength=2"], r"data\.balance_strength 2\.0 must lie between 0 and 1"),
        (["--data.sampler=rare"], r"data\.sampler"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tiny_config, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run_trainer_command("fit", ["--config", str(tiny_config), *arguments], UnstartedCLI)


def test_a_check_refuses_a_column_that_is_not_there(morph_root, capsys):
    wrong = ["--data.sampler=balanced", "--data.balance_by=[sex]", "--timing=false"]
    with pytest.raises(SystemExit):
        main(["check", "--data=morph", f"--root={morph_root}", "--data.image_size=64", *wrong])
    assert "data.balance_by: the table has no column 'sex'; choose from age, id" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["none", "light", "strong"])
def test_the_device_draws_what_the_cpu_draws(preset, morph_root):
    settings = {"root": str(morph_root), "image_size": 64, "num_workers": 0, "augment": preset}
    batches = []
    for place in ("cpu", "device"):
        data = MORPH(augment_on=place, **settings)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        image = data.on_after_batch_transfer(batch, 0)["image"]
        batches.append(image if image.is_floating_point() else image / 255)
    assert (batches[0] - batches[1]).abs().mean() < 0.02
