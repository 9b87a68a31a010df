from pathlib import Path

import pytest
import torch

import mtmsa_lightning
from mtmsa_lightning import MORPH, MTMSA, MSAConfig
from mtmsa_lightning.data.face_dataset import SampleKey, collate
from mtmsa_lightning.training.cost import Cost, _batch, _load, _Step, training_cost


@pytest.fixture(scope="module")
def data(morph_root):
    data = MORPH(root=str(morph_root), image_size=64, crop=1.0, batch_size=8, num_workers=0)
    data.setup("fit")
    return data


@pytest.fixture
def model(data):
    return MTMSA(msa=MSAConfig(rates=(1,), stages=(1,)), race_classes=data.race_classes, image_size=64)


def cost(device, face=0.1, load=0.02):
    return Cost(device, "32-true", 8, 3, face, load, 0.0, "")


def test_epochs_by_hand(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 5})
    # 90 training faces and a third of 30 validation faces: 100 faces of work, 120 images to load
    assert cost("cpu").epoch_seconds(90, 30, 1, 2) == pytest.approx(100 * 0.1 + 120 * 0.02 / 4)
    assert cost("H100").epoch_seconds(90, 30, 2, 1) == pytest.approx(100 * 0.1 / 2)
    assert cost("H100", load=1.0).epoch_seconds(90, 30, 2, 3) == pytest.approx(120 * 1.0 / 2 / 3)
    assert cost("H100", load=1.0).epoch_seconds(90, 30, 1, 0) == pytest.approx(120 * 1.0)


def test_a_training_step_is_timed_on_real_faces(model, data):
    before = [parameter.detach().clone() for parameter in model.parameters()]
    found = training_cost(model, data, torch.device("cpu"), "32-true", budget=1.0)
    assert (found.device, found.precision) == ("cpu", "32-true")
    assert 1 <= found.faces <= 8
    assert found.steps >= 1
    assert found.face_seconds > 0
    assert found.load_seconds > 0
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert any(changed), "it was a real step"


def test_memory_is_counted(model, data):
    """Weights, gradients and AdamW's two moments: 16 bytes a parameter; activations grow with the faces."""
    step = _Step(model.train(), data, torch.device("cpu"), "32-true")
    loaded, _ = _load(data, 8)
    step(_batch(loaded, 2, step.device))
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert step.state_bytes() == pytest.approx(16 * numbers, rel=1e-3)
    few, many = (step.activation_bytes(_batch(loaded, faces, step.device)) for faces in (4, 8))
    assert many / few == pytest.approx(2, rel=0.02)
    channels = model.trunk.conv1.out_channels
    first_map = (
        4 * channels * 32 * 32 * 8
    )  # the first convolution alone keeps a map of 32 x 32 cells a channel
    assert many > 3 * first_map


def test_a_batch_larger_than_what_was_loaded_repeats_it(data):
    loaded, _ = _load(data, 3)
    batch = _batch(loaded, 7, torch.device("cpu"))
    assert torch.equal(batch["image"][3:6], loaded["image"])
    assert len(batch["age_low"]) == 7


@pytest.mark.parametrize(("asked", "used"), [("bf16-mixed", "bf16-mixed"), ("64-true", "32-true")])
def test_precision_is_named_as_it_was_timed(model, data, asked, used):
    assert _Step(model, data, torch.device("cpu"), asked).precision == used


def test_a_step_sees_what_training_sees(model, morph_root):
    """Augmentation on the device belongs to the step: larger faces come in than the network learns from."""
    data = MORPH(
        root=str(morph_root), image_size=64, crop=1.0, batch_size=8, num_workers=0, augment_on="device"
    )
    data.setup("fit")
    loaded, _ = _load(data, 3)
    assert loaded["image"].shape[-1] > 64
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    step = _Step(model.train(), data, torch.device("cpu"), "32-true")
    step(_batch(loaded, 5, step.device))
    assert seen[0].shape == (5, 3, 64, 64)
    expected = data.on_after_batch_transfer(
        collate([data.train_dataset[SampleKey(row)] for row in (0, 1, 2, 0, 1)]), 0
    )
    torch.testing.assert_close(seen[0], expected["image"])


def test_the_count_of_cores_is_the_one_that_a_process_may_use():
    """The cores of the machine are asked for where they are counted and where they are recorded alone."""
    package = Path(mtmsa_lightning.__file__).parent
    asking = {file.name for file in package.rglob("*.py") if "cpu_count" in file.read_text()}
    assert asking == {"cores.py", "run_record.py"}
