"""The data decides what a network is trained at, the checkpoint what it is evaluated and used at."""

from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from mtmsa_lightning import MORPH, MTMSA, AgeEstimator, MSAConfig
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.checkpoints import read_checkpoint

SMALL = MSAConfig(rates=(1,), stages=(1,))
RACES = MORPH.race_classes
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False, "max_steps": 1, "limit_val_batches": 0,
}  # fmt: skip


def morph(root: Path) -> MORPH:
    return MORPH(root=str(root), image_size=64, crop=0.9, batch_size=8, num_workers=0, val_fraction=0.2)


@pytest.fixture(scope="module")
def other_config(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of ``trained`` but for size and crop."""
    config = yaml.safe_load(tiny_config.read_text())
    config["data"]["init_args"] |= {"image_size": 96, "crop": 0.7}
    file = tmp_path_factory.mktemp("configs") / "other.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


SAID = "set from the checkpoint: data.image_size 64 instead of 96, data.crop 1.0 instead of 0.7"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["test", "validate", "calibrate"])
def test_a_checkpoint_is_evaluated_at_its_own_size(verb, trained, other_config, tmp_path, capsys):
    args = [verb, "--ckpt_path", str(trained), "--config", str(other_config)]
    if verb == "calibrate":
        main([*args, "--part", "val", "--out", str(tmp_path / "x.ckpt")])
    else:
        main([*args, "--run_dir", str(tmp_path / "run")])
        used = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["init_args"]
        assert (used["image_size"], used["crop"]) == (64, 1.0)
    printed = capsys.readouterr()
    assert printed.out.count(SAID) == 1
    assert "was trained on faces of" not in printed.out + printed.err


@pytest.mark.slow
def test_the_command_line_has_the_last_word_on_the_size(trained, other_config, tmp_path, capsys):
    args = ["test", "--ckpt_path", str(trained), "--config", str(other_config), "--data.image_size=80"]
    main([*args, "--run_dir", str(tmp_path / "run")])
    used = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["init_args"]
    assert (used["image_size"], used["crop"]) == (80, 1.0)
    assert "was trained on faces of 64 px" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_built_in_python_takes_size_and_crop_from_its_data(morph_root, tmp_path):
    model = MTMSA(msa=SMALL, race_classes=RACES)
    assert model.image_size == 224
    trainer = Trainer(**QUIET)
    trainer.fit(model, morph(morph_root))
    trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    recorded = read_checkpoint(tmp_path / "x.ckpt")
    for source in (recorded["hyper_parameters"], recorded["provenance"]):
        assert (source["image_size"], source["crop"]) == (64, 0.9)
    used = AgeEstimator.from_pretrained(tmp_path / "x.ckpt", device="cpu").preprocessing
    assert (used.image_size, used.crop) == (64, 0.9)


@pytest.mark.slow
def test_a_race_head_without_names_is_an_error(morph_root):
    with pytest.raises(ConfigError, match=r"MTMSA\(race_classes=data\.race_classes\), or with race=None"):
        Trainer(**QUIET).fit(MTMSA(msa=SMALL), morph(morph_root))
    Trainer(**QUIET).fit(MTMSA(msa=SMALL, race=None), morph(morph_root))


@pytest.mark.slow
def test_loaders_without_a_datamodule_do_not_say_their_size(morph_root):
    data = morph(morph_root)
    data.prepare_data()
    data.setup("fit")
    model = MTMSA(msa=SMALL, race_classes=RACES)
    model.age.set_age_statistics(30, 10)
    loader: DataLoader = data.train_dataloader()
    with pytest.raises(ConfigError, match=r"faces of 64 px, but the model and its predictions use 224"):
        Trainer(**QUIET).fit(model, loader, loader)
