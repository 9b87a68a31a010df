"""Fine-tuning: a training starts with the very weights of the network that it is given."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import save_file
from torch import nn

from mtmsa_lightning import MORPH, MTMSA, AgeEstimator, MSAConfig
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.labels import RACES
from mtmsa_lightning.runs.initial_weights import load_initial_weights

SMALL = {"msa": MSAConfig(rates=(1,), stages=(1,)), "image_size": 64}
MORPH_RACES = ("white", "black", "asian", "hispanic", "other")
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip


def network(seed: int, **arguments) -> MTMSA:
    torch.manual_seed(seed)
    return MTMSA(**SMALL | {"race_classes": MORPH_RACES} | arguments)


@pytest.fixture(scope="module")
def given() -> MTMSA:
    """The network to start from, trained on ages about 20."""
    model = network(1)
    model.age.set_age_statistics(20, 5)
    nn.init.normal_(model.trunk.msa["1"].expand.weight)
    return model


@pytest.fixture(scope="module")
def sources(given, tmp_path_factory) -> dict[str, Path]:
    """The same network as a folder, its file of weights, and a checkpoint."""
    root = tmp_path_factory.mktemp("sources")
    AgeEstimator(given, device="cpu").save_pretrained(root / "folder")
    torch.save({"hyper_parameters": dict(given.hparams), "state_dict": given.state_dict()}, root / "x.ckpt")
    return {
        "folder": root / "folder",
        "file": root / "folder" / "model.safetensors",
        "checkpoint": root / "x.ckpt",
    }


def parts(model: MTMSA) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one: dict, other: dict, *prefixes: str) -> bool:
    keys = [key for key in one if key.startswith(prefixes or ("",))]
    assert keys
    return all(torch.equal(one[key], other[key]) for key in keys)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "file", "checkpoint"])
def test_a_fit_starts_with_the_weights_of_its_file(source, sources, given, morph_root, monkeypatch):
    """Trunk, attention and all heads, with the units of age that they were trained in; then it learns."""
    started = {}
    monkeypatch.setattr(MTMSA, "on_train_start", lambda self: started.update(parts(self)), raising=False)
    data = MORPH(root=str(morph_root), image_size=64, batch_size=8, num_workers=0, crop=1.0)
    model = network(2, weights=str(sources[source]), optimizer=partial(torch.optim.SGD, lr=1e-3))
    Trainer(max_steps=1, limit_val_batches=0, **QUIET).fit(model, data)
    assert same(started, given.state_dict())
    assert not same(parts(model), given.state_dict(), "trunk.conv1")


@pytest.mark.slow
def test_it_is_one_line_of_a_config(sources, given, tiny_config, tmp_path, monkeypatch):
    """The config's age head has dropout, which is no matter of weights."""
    started = {}
    monkeypatch.setattr(MTMSA, "on_train_start", lambda self: started.update(parts(self)), raising=False)
    (tmp_path / "tune.yaml").write_text(f"model: {{weights: {sources['folder']}}}")
    main([
        "fit", "--config", str(tiny_config), "--config", f"{tmp_path}/tune.yaml", "--test_after_fit=false",
        "--trainer.limit_train_batches=1", "--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}",
    ])  # fmt: skip
    assert same(started, given.state_dict())


def test_a_run_directory_is_a_source_too(sources, given, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(sources["checkpoint"].read_bytes())
    model = network(2)
    load_initial_weights(model, str(tmp_path))
    assert same(parts(model), given.state_dict())


CHANGES = {
    "other races": ({"race_classes": RACES}, ("race",), "race head starts at random: race_classes were"),
    "reordered genders": ({"gender_classes": ("female", "male")}, ("gender",), "gender_classes were"),
    "another age head": (
        {"age": {"class_path": "mtmsa_lightning.CoralAgeHead"}}, ("age",),
        "there it is mtmsa_lightning.GaussianAgeHead, here mtmsa_lightning.CoralAgeHead",
    ),
    "branching elsewhere": ({"aux_stage": 2}, ("gender", "race"), "reads other features (model.aux_stage)"),
    "no race": ({"race_classes": ()}, (), "race head of that network is not used: this one has none"),
    "no age": ({"age": None}, (), "age head of that network is not used"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_head_that_means_something_else_is_skipped_and_said(change, sources, given, caplog):
    arguments, skipped, said = CHANGES[change]
    model = network(2, **arguments)
    before = parts(model)
    with caplog.at_level(logging.INFO):
        load_initial_weights(model, str(sources["folder"]))
    after = parts(model)
    for task in ("trunk", *model.tasks):
        assert same(after, before if task in skipped else given.state_dict(), f"{task}.")
    assert said in caplog.text
    loaded = [f"{task} head" for task in model.tasks if task not in skipped]
    assert caplog.messages[-1].endswith(f": {', '.join(['trunk', *loaded])}")


def test_a_head_that_the_file_lacks_is_said(tmp_path, caplog):
    AgeEstimator(network(1, race_classes=()), device="cpu").save_pretrained(tmp_path)
    load_initial_weights(network(2), str(tmp_path))
    assert "the race head starts at random: that network has none" in caplog.text


@pytest.mark.parametrize(("first", "last", "fits"), [(0, 90, True), (0, 91, False), (1, 91, False)])
def test_years_of_an_age_head_must_be_the_same_years(first, last, fits, tmp_path, caplog):
    """From 1 to 91 there are as many as from 0 to 90: the shapes would fit."""

    def of_years(seed: int, first: int, last: int) -> MTMSA:
        head = {
            "class_path": "mtmsa_lightning.CrossEntropyAgeHead",
            "init_args": {"min_age": first, "max_age": last},
        }
        return network(seed, age=head)

    given = of_years(1, 0, 90)
    AgeEstimator(given, device="cpu").save_pretrained(tmp_path)
    model = of_years(2, first, last)
    load_initial_weights(model, str(tmp_path))
    assert ("_age were" not in caplog.text) == fits
    if fits:
        assert same(parts(model), given.state_dict(), "age.")


def test_a_trunk_that_does_not_fit_is_refused_with_the_settings_that_differ(sources):
    model = network(2, msa=MSAConfig(rates=(1, 2), stages=(2,)))
    before = parts(model)
    with pytest.raises(CheckpointError) as caught:
        load_initial_weights(model, str(sources["folder"]))
    assert "missing: msa.2" in str(caught.value)
    assert "model.msa.rates was [1], is [1, 2]; model.msa.stages was [1], is [2]" in str(caught.value)
    assert same(parts(model), before)


def test_settings_without_weights_of_their_own_are_said_where_they_differ(sources, given, caplog):
    model = network(2, last_stride=1, msa=MSAConfig(rates=(2,), stages=(1,), allow_gridding=True))
    load_initial_weights(model, str(sources["folder"]))
    assert "model.msa.rates was [1], is [2]" in caplog.text
    assert "model.last_stride was 2, is 1" in caplog.text
    assert same(parts(model), given.state_dict())


def test_safetensors_of_others_fill_the_trunk_alone(given, tmp_path):
    """In torchvision's layout, and our own file without its config."""
    torchvision_like = {
        key: value for key, value in parts(network(3, msa=None)).items() if key.startswith("trunk.")
    }
    bare = {key.removeprefix("trunk."): value for key, value in torchvision_like.items()}
    save_file(
        bare | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)},
        tmp_path / "timm.safetensors",
    )
    save_file(given.state_dict(), tmp_path / "lonely.safetensors")
    for name, expected in (("timm", torchvision_like), ("lonely", given.trunk.state_dict(prefix="trunk."))):
        model = network(2)
        heads = parts(model)
        load_initial_weights(model, str(tmp_path / f"{name}.safetensors"))
        assert same(expected, parts(model))
        assert same(parts(model), heads, "age.", "gender.", "race.")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda at: (at / "config.json").unlink(), "no checkpoint in this folder: it holds README.md, model"),
        (lambda at: (at / "model.safetensors").write_bytes(b"x"), "no readable file of safetensors"),
    ],
)
def test_a_damaged_folder_is_not_taken_for_bare_weights(damage, said, tmp_path):
    AgeEstimator(network(1), device="cpu").save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        load_initial_weights(network(2), str(tmp_path))
