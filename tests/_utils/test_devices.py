"""What a device decides is decided in one place, and can be asked for on any machine."""

import re
from types import SimpleNamespace

import pytest
import torch

from mtmsa_lightning import MTMSA, AgeEstimator, MSAConfig
from mtmsa_lightning._utils.devices import best_precision, choose_accelerator
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import PACKAGE


@pytest.mark.parametrize(
    ("name", "cuda", "chosen"),
    [
        ("auto", True, "cuda"), ("auto", False, "cpu"), ("gpu", True, "cuda"), ("gpu", False, "cuda"),
        ("cuda", True, "cuda"), ("cpu", True, "cpu"), ("tpu", False, "tpu"),
    ],
)  # fmt: skip
def test_no_choice_is_apples_gpu_where_there_is_one(monkeypatch, name, cuda, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_accelerator(name) == chosen


@pytest.mark.parametrize("native", [True, False])
def test_mixed_precision_is_for_gpus_that_compute_it_natively(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert best_precision("cuda") == ("bf16-mixed" if native else "32-true")
    assert best_precision("cpu") == "32-true"


def test_no_other_module_asks_what_the_machine_has():
    files = [file for file in PACKAGE.rglob("*.py") if re.search(r"(cuda|mps|xpu)\.is_", file.read_text())]
    assert [file.name for file in files] == ["devices.py"]


APPLE = "has no float64, which losses and metrics are computed in: choose cpu"


@pytest.mark.parametrize(
    "command",
    [
        ["fit", "--config=CONFIG", "--trainer.accelerator=mps"],
        ["check", "--config=CONFIG", "--trainer.accelerator=mps"],
        ["crossval", "--config=CONFIG", "--trainer.accelerator=mps", "--trainer.default_root_dir=OUT"],
        ["validate", "--ckpt_path=RUN", "--trainer.accelerator=mps"],
        ["test", "--ckpt_path=RUN", "--trainer.accelerator=mps"],
        ["evaluate", "--ckpt_path=RUN", "--trainer.accelerator=mps"],
        ["calibrate", "--ckpt_path=RUN", "--accelerator=mps"],
        ["predict", "--ckpt_path=RUN", "FACES", "--out=OUT/ages.csv", "--accelerator=mps"],
        ["app", "--ckpt_path=RUN", "--accelerator=mps"],
    ],
    ids=lambda command: command[0],
)
def test_every_verb_refuses_apples_gpu_in_one_line(
    fails, trained, tiny_config, morph_root, tmp_path, command
):
    places = {"CONFIG": tiny_config, "RUN": trained, "OUT": tmp_path, "FACES": morph_root}
    for name, place in places.items():
        command = [part.replace(name, str(place)) for part in command]
    assert fails(*command).splitlines()[0].endswith(APPLE)


def test_python_refuses_what_the_command_line_does():
    model = MTMSA(msa=MSAConfig(rates=(1,), stages=(1,)), image_size=64)
    for device in ("mps", "mps:0", torch.device("mps")):
        with pytest.raises(ConfigError, match=APPLE):
            AgeEstimator(model, device=device)
    apple = SimpleNamespace(root_device=torch.device("mps"))
    model.trainer = SimpleNamespace(strategy=apple, precision="32-true", datamodule=None)
    with pytest.raises(ConfigError, match=APPLE):
        model.setup("fit")
