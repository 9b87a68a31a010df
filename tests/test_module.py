from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from narrow_network import full_width
from torch import nn
from torch.utils.data import DataLoader

from mtmsa_lightning import MORPH, MTMSA, Adience, ClassHead, CrossEntropyAgeHead, GaussianAgeHead, MSAConfig
from mtmsa_lightning.data.face_dataset import collate
from mtmsa_lightning.data.synthetic import write_adience
from mtmsa_lightning.errors import CheckpointError, ConfigError

SMALL = {"msa": MSAConfig(rates=(1,), stages=(1,)), "image_size": 64}
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip


def data_of(root, **arguments) -> MORPH:
    return MORPH(root=str(root), image_size=64, batch_size=8, num_workers=0, crop=1.0, **arguments)


def batch_of(n: int = 4, **labels) -> dict:
    nothing = {
        "age_low": torch.full((n,), torch.nan, dtype=torch.float64),
        "age_high": torch.full((n,), torch.nan, dtype=torch.float64),
        "gender": torch.full((n,), -1),
        "race": torch.full((n,), -1),
    }
    return {"image": torch.randint(0, 255, (n, 3, 64, 64), dtype=torch.uint8), **nothing, **labels}


def test_a_batch_without_any_label_costs_nothing_and_reaches_every_parameter():
    model = MTMSA(race_classes=("white", "black"), weighting="learned", **SMALL)
    batch = batch_of()
    loss = model.total_loss(model.losses(model(batch["image"]), batch))
    loss.backward()
    assert loss.item() == 0.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name}: DDP would wait for it"
        assert torch.count_nonzero(parameter.grad) == 0, name


def test_uint8_and_unit_floats_are_the_same_image():
    model = MTMSA(**SMALL).eval()
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(model.normalise(image), model.normalise(image / 255))
    white = model.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))[0, :, 0, 0]
    torch.testing.assert_close(white, torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_auxiliary_heads_branch_off_after_their_stage(stage):
    with full_width():
        model = MTMSA(aux_stage=stage, **SMALL)
    assert model.gender.linear.in_features == (64, 128, 256, 512)[stage - 1]
    assert model(torch.zeros(1, 3, 64, 64)).gender.shape == (1, 2)


def test_any_head_may_be_skipped_but_not_all():
    for skipped in ("age", "gender", "race"):
        model = MTMSA(**{skipped: None}, race_classes=("white", "black"), **SMALL)
        assert skipped not in model.tasks
        assert getattr(model(torch.zeros(1, 3, 64, 64)), skipped) is None
    assert MTMSA(**SMALL).tasks == ("age", "gender"), "no race classes, no race head"
    with pytest.raises(ConfigError, match="no head is left"):
        MTMSA(age=None, gender=None, race=None, **SMALL)


def test_biases_and_normalisation_are_not_decayed_and_trunk_attention_and_heads_are_groups():
    model = MTMSA(**SMALL)
    groups = {group["name"]: group for group in model.parameter_groups()}
    parts = ("trunk", "attention", "heads")
    assert set(groups) == {*parts, *(f"{part}_undecayed" for part in parts)}
    sizes = {name: sum(p.numel() for p in group["params"]) for name, group in groups.items()}
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())
    resnet = sum(p.numel() for name, p in model.trunk.named_parameters() if not name.startswith("msa."))
    assert sizes["trunk"] + sizes["trunk_undecayed"] == resnet
    attention = sum(p.numel() for p in model.trunk.msa.parameters())
    assert sizes["attention"] + sizes["attention_undecayed"] == attention
    for part in parts:
        assert groups[f"{part}_undecayed"]["weight_decay"] == 0.0
        assert all(p.ndim <= 1 for p in groups[f"{part}_undecayed"]["params"])


@pytest.mark.slow
def test_a_python_checkpoint_is_plain_and_gives_the_same_predictions(morph_root, tmp_path):
    data = data_of(morph_root)
    head = partial(GaussianAgeHead, dropout=0.2, beta=0.5)
    optimizer = partial(torch.optim.SGD, lr=1e-3, momentum=0.9)
    model = MTMSA(age=head, optimizer=optimizer, race_classes=data.race_classes, **SMALL)
    trainer = Trainer(max_steps=2, **QUIET)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)["hyper_parameters"]
    assert saved["optimizer"] == {
        "class_path": "torch.optim.sgd.SGD",
        "init_args": {"lr": 1e-3, "momentum": 0.9},
    }
    images = torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.eval()(images)
        for loaded in (
            MTMSA.load(tmp_path / "x.ckpt"),
            MTMSA.load_from_checkpoint(tmp_path / "x.ckpt").eval(),
        ):
            assert loaded.age.init_args == {"form": "exact", "beta": 0.5, "dropout": 0.2}
            torch.testing.assert_close(loaded(images).age.mean, expected.age.mean)
            torch.testing.assert_close(loaded(images).race, expected.race)


@pytest.mark.slow
def test_initial_weights_are_loaded_once_and_never_over_a_checkpoint(morph_root, tmp_path):
    """Neither by fit with a checkpoint, nor by test, nor by a second verb of the same process."""
    torch.manual_seed(1)
    weights = tmp_path / "resnet34.pth"
    source = MTMSA(msa=None).trunk
    torch.save(source.state_dict(), weights)
    data = data_of(morph_root)
    model = MTMSA(weights=str(weights), race_classes=data.race_classes, **SMALL)
    frozen = {"optimizer": partial(torch.optim.SGD, lr=0.0)}
    model.optimizer = frozen["optimizer"]
    trainer = Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(model, data)
    assert torch.equal(model.trunk.conv1.weight, source.conv1.weight), "loaded at the start of a fit"
    nn.init.constant_(model.trunk.conv1.weight, 0.5)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    weights.unlink()
    trainer.test(model, data, verbose=False)
    assert torch.all(model.trunk.conv1.weight == 0.5)

    again = MTMSA(weights=str(weights), race_classes=data.race_classes, **SMALL, **frozen)
    Trainer(**QUIET).test(again, data, ckpt_path=tmp_path / "x.ckpt", verbose=False, weights_only=True)
    assert torch.all(again.trunk.conv1.weight == 0.5)
    third = MTMSA(weights=str(weights), race_classes=data.race_classes, **SMALL, **frozen)
    Trainer(max_epochs=2, limit_train_batches=1, **QUIET).fit(
        third, data, ckpt_path=tmp_path / "x.ckpt", weights_only=True
    )
    assert torch.all(third.trunk.conv1.weight == 0.5)
    with pytest.raises(CheckpointError, match="does not exist"):
        Trainer(max_steps=1, **QUIET).fit(MTMSA(weights=str(weights), race=None, **SMALL), data)


def test_a_recorded_class_of_another_package_is_not_built():
    with pytest.raises(CheckpointError, match=r"os\.system is not a class of this package"):
        MTMSA(age={"class_path": "os.system", "init_args": {}}, **SMALL)


@pytest.mark.slow
def test_a_model_of_other_race_classes_is_tested_by_name(morph_root):
    """A UTKFace model on MORPH: as many classes, another meaning."""
    classes = ("white", "black", "asian", "indian", "other")
    data = data_of(morph_root)
    model = MTMSA(race_classes=classes, **SMALL)
    model.age.set_age_statistics(33, 11)
    torch.manual_seed(0)
    trainer = Trainer(**QUIET)
    (metrics,) = trainer.test(model, data, verbose=False)
    table = data.test_dataset.table
    names = [data.race_classes[index] for index in table["race"]]
    model.eval()
    with torch.no_grad():
        images = collate([data.test_dataset[row] for row in range(len(table))])["image"]
        logits = model(images).race
        logits[:, classes.index("indian")] = -torch.inf  # MORPH has none
        predicted = [classes[index] for index in logits.argmax(1)]
    known = [(p == n) for p, n in zip(predicted, names, strict=True) if n in classes]
    assert metrics["test/race_acc"] == pytest.approx(sum(known) / len(known))
    assert "test/race_acc" not in Trainer(**QUIET).test(MTMSA(race=None, **SMALL), data, verbose=False)[0]


def test_exact_and_group_ages_together_have_no_common_loss_to_select_by():
    model = MTMSA(age_groups=((0, 2), (4, 6)), **SMALL)
    model.metrics.labels = {"val": {"age", "exact", "group"}, "train": {"age", "exact", "group"}}
    assert {"loss", "age_loss"} & set(model.metrics.logged("val")) == set()
    assert {"age_nll", "age_interval_nll"} <= set(model.metrics.logged("val"))
    assert "loss" in model.metrics.logged("train"), "the objective that is minimised"
    model.metrics.labels = {"val": {"age", "group"}}
    assert {"loss", "age_loss", "age_interval_nll", "group_acc"} <= set(model.metrics.logged("val"))
    assert "age_mae" not in model.metrics.logged("val")


def test_the_module_is_a_lightning_module_with_typed_parts():
    model = MTMSA(race_classes=("white", "black"), **SMALL)
    assert isinstance(model, LightningModule)
    assert isinstance(model.gender, ClassHead)
    assert model.hparams["msa"] == {
        "rates": [1], "stages": [1], "reduction": 4, "placement": "after_stage", "allow_gridding": False,
    }  # fmt: skip


def test_wide_rates_are_warned_of_when_a_fit_starts_and_not_before(caplog):
    model = MTMSA(msa={"rates": [1, 2, 5], "stages": [4]}, age=None, weights=None, image_size=64)
    model._initialised = True  # as with the weights of a checkpoint
    model._trainer = SimpleNamespace(datamodule=None)
    assert not caplog.messages
    model.on_fit_start()
    (said,) = caplog.messages
    assert "dilation rates [1, 2, 5] span half of it or more" in said


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_ages_outside_the_heads_years_are_told_before_any_step(morph_root, stage, caplog):
    data = data_of(morph_root)
    model = MTMSA(age=partial(CrossEntropyAgeHead, max_age=17), gender=None, race=None, **SMALL)
    trainer = Trainer(max_epochs=1, **QUIET)
    with pytest.raises(ConfigError, match=r"age labels lie outside the years 0 to 17 of the age head"):
        getattr(trainer, stage)(model, datamodule=data)
    assert not hasattr(trainer, "_results") or model.global_step == 0


def test_few_ages_outside_the_heads_years_are_warned_of_once_for_a_part(morph_root, caplog):
    data = data_of(morph_root)
    data.prepare_data()
    data.setup("fit")
    highest = int(data.train_dataset.table["age_high"].max())
    model = MTMSA(age=partial(CrossEntropyAgeHead, max_age=highest - 1), gender=None, race=None, **SMALL)
    model._trainer = Trainer(**QUIET)
    for _ in range(2):
        model._check_years(data, "fit")
        model._check_years(data, "test")
    assert sum("train age labels lie outside" in text for text in caplog.messages) == 1
    assert sum("test age labels lie outside" in text for text in caplog.messages) <= 1


def test_one_model_is_fitted_on_exact_ages_and_tested_on_groups(morph_root, tmp_path):
    """In one process: the metrics of age groups are new to Lightning, which has logged others by then."""
    write_adience(tmp_path, n_faces=40, seed=3, size=80)
    model = MTMSA(race=None, **SMALL)
    trainer = Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(model, datamodule=data_of(morph_root))
    groups = Adience(root=str(tmp_path), image_size=64, batch_size=8, num_workers=0)
    (metrics,) = trainer.test(model, datamodule=groups, verbose=False)
    assert 0 <= metrics["test/group_acc"] <= 1


class PlainData(LightningDataModule):
    """A DataModule of another program around the faces of one of ours."""

    def __init__(self, faces: MORPH) -> None:
        super().__init__()
        self.faces = faces

    def setup(self, stage: str) -> None:
        self.faces.prepare_data()
        self.faces.setup(stage)

    def train_dataloader(self) -> DataLoader:
        return self.loader(self.faces.train_dataset)

    def val_dataloader(self) -> DataLoader:
        return self.loader(self.faces.val_dataset)

    def test_dataloader(self) -> DataLoader:
        return self.loader(self.faces.test_dataset)

    def loader(self, dataset) -> DataLoader:
        return DataLoader([dataset[row] for row in range(8)], batch_size=4, collate_fn=collate)


def test_a_model_is_trained_and_tested_with_a_datamodule_of_another_program(morph_root):
    model = MTMSA(race=None, **SMALL)
    model.age.set_age_statistics(30.0, 10.0)
    data = PlainData(data_of(morph_root))
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, datamodule=data)
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    assert metrics["test/age_mae"] >= 0
    assert model.provenance is None
