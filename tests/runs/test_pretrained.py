"""Folders of weights and settings: what is loaded is what was saved, and damage is told by name."""

import json
import os
import shutil
from pathlib import Path

import narrow_network
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from mtmsa_lightning import MTMSA, AgeEstimator, MSAConfig
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.parity import BOUNDS, check, compare, runner_of
from mtmsa_lightning.labels import AGE_GROUPS
from mtmsa_lightning.reports.card import card_of_checkpoint
from mtmsa_lightning.runs import pretrained
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.pretrained import is_pretrained, licence_note, read_pretrained, write_pretrained
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.calibrating import store

FILES = {"config.json", "model.safetensors", "trained_on.safetensors", "README.md"}


@pytest.fixture(scope="module")
def model() -> MTMSA:
    """With something in every place that is saved: odd numbers, an infinite quantile, learned weights."""
    torch.manual_seed(0)
    model = MTMSA(
        weights="/home/somebody/secret/resnet34.pth", msa=MSAConfig(rates=(1, 2), stages=(3, 1), reduction=8),
        age={"class_path": "mtmsa_lightning.CoralAgeHead", "init_args": {"max_age": 90}}, last_stride=1,
        aux_stage=3, weighting="learned", image_size=72, crop=0.85, race_classes=("asian", "white", "black"),
        age_groups=AGE_GROUPS,
    )  # fmt: skip
    model.age.set_age_statistics(1 / 3, 2**0.5)
    model.calibration = Calibration(
        sigma_scale=1.1, temperatures={"gender": 1 / 7}, quantiles={0.5: 0.1 + 0.2, 0.95: float("inf")},
        min_group_prob=0.3, fitted_on={
            "dataset": "morph", "protocol": "random", "fold": 0, "split_seed": 0, "part": "calibration",
            "fingerprint": "00", "faces": 3, "subjects": 3, "unit": "subjects", "chose_checkpoint": False,
        }, metrics={"a": {"b": 1e-300}},
    )  # fmt: skip
    model.provenance = {
        "dataset": "morph", "label_rule": "as released", "labels": ["age", "gender"], "notes": ["é ü 年"],
        "fingerprints": {"train": "ab"},
        "preparation": {"crop": {"margin": 0.4, "size": 200, "detector": {"a": 1}}},
        "train_id_hashes": torch.tensor([2**63 - 1, -(2**63)]),
        "train_image_hashes": torch.tensor([], dtype=torch.int64),
    }  # fmt: skip
    return model.eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "new" / "folder"
    AgeEstimator(model, device="cpu").save_pretrained(folder)
    return folder


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    """The folder with the same files: a test may replace them, not write into them."""
    return Path(shutil.copytree(folder, tmp_path / "copied", copy_function=os.link))


def equal(one: dict, other: dict) -> bool:
    def same(a: object, b: object) -> bool:
        return torch.equal(a, b) and a.dtype == b.dtype if torch.is_tensor(a) else a == b

    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


@pytest.mark.parametrize("load", [AgeEstimator.from_pretrained, MTMSA.load])
def test_what_is_loaded_equals_what_was_saved_bit_by_bit(load, model, folder):
    loaded = load(folder)
    loaded = loaded.model.cpu() if isinstance(loaded, AgeEstimator) else loaded
    assert equal(loaded.state_dict(), model.state_dict())
    assert loaded.state_dict()["age.age_mean"].dtype == torch.float64
    assert loaded.calibration == model.calibration
    assert equal(loaded.provenance, model.provenance)
    assert dict(loaded.hparams) == dict(model.hparams) | {"weights": "resnet34.pth"}
    assert loaded.gender_classes == model.gender_classes
    assert loaded.race_classes == ("asian", "white", "black")
    assert loaded.age_groups == AGE_GROUPS
    assert not loaded.training


def test_a_second_save_writes_the_same_bytes(folder, tmp_path):
    AgeEstimator.from_pretrained(folder, device="cpu").save_pretrained(tmp_path)
    assert {file.name for file in folder.iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_config_tells_others_all_they_need(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == "mtmsa-lightning"
    assert "RGB" in config["input"]
    assert "MORPH Album II, whose licence allows non-commercial research only" in config["licence"]
    assert config["hyper_parameters"]["race_classes"] == ["asian", "white", "black"]
    assert config["provenance"]["preparation"]["crop"]["margin"] == 0.4
    assert config["provenance"]["label_rule"] == "as released"
    assert "secret" not in json.dumps(config), "where files lay is nobody's business"
    assert "NaN" not in json.dumps(config)
    assert "Infinity" not in json.dumps(config)


def test_the_weights_need_no_code_of_this_package(folder, model):
    state = load_file(folder / "model.safetensors")
    assert torch.equal(state["trunk.conv1.weight"], model.trunk.conv1.weight)


def test_nothing_is_unpickled(folder, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    assert MTMSA.load(str(folder)).image_size == 72


def test_a_network_without_a_record_is_saved_too(tmp_path):
    model = MTMSA(msa=None, image_size=64)
    AgeEstimator(model, device="cpu").save_pretrained(tmp_path / "one")
    loaded = MTMSA.load(tmp_path / "one")
    assert (loaded.provenance, loaded.calibration) == (None, None)
    assert "The training data is not recorded" in (tmp_path / "one" / "README.md").read_text()
    assert not (tmp_path / "one" / "trained_on.safetensors").exists()
    assert (
        "data that is not recorded" in json.loads((tmp_path / "one" / "config.json").read_text())["licence"]
    )


def test_an_older_folder_is_replaced_whole(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "one")
    model = MTMSA(msa=None, image_size=64)
    AgeEstimator(model, device="cpu").save_pretrained(tmp_path / "one")
    assert {file.name for file in (tmp_path / "one").iterdir()} == FILES - {"trained_on.safetensors"}
    assert MTMSA.load(tmp_path / "one").image_size == 64


def test_the_card_says_what_the_run_recorded_and_goes_on_with_the_weights(trained, tmp_path):
    estimator = AgeEstimator.from_pretrained(trained, device="cpu")
    estimator.save_pretrained(tmp_path / "one")
    card = (tmp_path / "one" / "README.md").read_text()
    assert card == card_of_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert "| epochs | 2 |" in card

    again = AgeEstimator.from_pretrained(tmp_path / "one", device="cpu")
    again.save_pretrained(tmp_path / "two")
    assert (tmp_path / "two" / "README.md").read_text() == card
    with torch.no_grad():
        again.model.trunk.conv1.weight.add_(1)
    again.save_pretrained(tmp_path / "three")
    card = (tmp_path / "three" / "README.md").read_text()
    assert card.partition("\n# ")[2].startswith("three\n"), "of another network nothing is known"
    assert "| epochs | not recorded |" in card


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("synthetic", "nobody's terms"),
        ("synthetic-morph", "nobody's terms"),
        ("adience", "non-commercial"),
        ("holiday", "holiday: see the terms"),
    ],
)
def test_the_licence_note_names_the_data(dataset, said):
    assert said in licence_note({"dataset": dataset})


# ---------------------------------------------------------------- float16


@pytest.fixture(scope="module")
def halved(model, tmp_path_factory) -> Path:
    """The network with its kernels and matrices stored as float16."""
    checkpoint = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    checkpoint |= {"provenance": model.provenance, "calibration": model.calibration.to_dict()}
    folder = tmp_path_factory.mktemp("halved") / "network"
    write_pretrained(checkpoint, folder, half=True)
    return folder


def test_float16_halves_the_file_and_rounds_kernels_and_matrices_alone(model, folder, halved):
    whole, half = ((at / "model.safetensors").stat().st_size for at in (folder, halved))
    assert 0.5 < half / whole < 0.6
    stored, state = load_file(halved / "model.safetensors"), model.state_dict()
    for name, values in stored.items():
        rounded = state[name].ndim > 1
        assert values.dtype == (torch.float16 if rounded else state[name].dtype), name
        assert torch.equal(values, state[name].half() if rounded else state[name]), name


def test_predictions_from_float16_weights_are_those_of_the_network_within_the_bound_of_exports(model, halved):
    loaded = MTMSA.load(halved)
    assert {each.dtype for each in loaded.state_dict().values()} == {
        each.dtype for each in model.state_dict().values()
    }
    images = torch.randint(0, 256, (8, 3, 72, 72), dtype=torch.uint8, generator=torch.manual_seed(3))
    difference = compare(model, runner_of(loaded), images, [8])
    check(difference, BOUNDS[Precision.FP16])
    assert difference.years > 0


def test_what_was_float16_stays_so_and_what_was_not_stays_exact(model, halved, tmp_path):
    """Saved again, the file has the same bytes; after a change of the weights it is float32 again."""
    estimator = AgeEstimator.from_pretrained(halved, device="cpu")
    estimator.save_pretrained(tmp_path / "again")
    weights = (halved / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == weights
    store(str(tmp_path / "again"), None)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == weights
    assert read_checkpoint(tmp_path / "again").get("calibration") is None
    with torch.no_grad():
        estimator.model.trunk.conv1.weight.mul_(1 / 3)
    estimator.save_pretrained(tmp_path / "changed")
    assert equal(MTMSA.load(tmp_path / "changed").state_dict(), estimator.model.state_dict())


def test_the_real_network_is_below_45_megabytes():
    with narrow_network.full_width():
        model = MTMSA()
    stored = pretrained._stored(model.state_dict(), half=True).values()
    assert sum(each.numel() for each in stored) > 20_000_000
    assert sum(each.nbytes for each in stored) < 45_000_000


# ---------------------------------------------------------------- damage


def rewrite(file: Path, content: bytes) -> None:
    file.unlink()  # or the original would be written to
    file.write_bytes(content)


def altered(file: Path, **changes: object) -> None:
    rewrite(file, json.dumps(json.loads(file.read_text()) | changes).encode())


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    rewrite(file, content)


DAMAGE = {
    "weights missing": (
        lambda at: (at / "model.safetensors").unlink(),
        "model.safetensors: no such checkpoint",
    ),
    "weights cut": (
        lambda at: rewrite(at / "model.safetensors", (at / "model.safetensors").read_bytes()[:-100]),
        "model.safetensors: no readable file of safetensors",
    ),
    "weights empty": (lambda at: rewrite(at / "model.safetensors", b""), "model.safetensors: no readable"),
    "a bit flipped": (lambda at: flip_a_bit(at / "model.safetensors"), "model.safetensors: damaged"),
    "weights of another": (
        lambda at: rewrite(at / "model.safetensors", save({"trunk.conv1.weight": torch.zeros(2)})),
        "not the weights that config.json was written with",
    ),
    "config cut": (
        lambda at: rewrite(at / "config.json", (at / "config.json").read_bytes()[:100]),
        "config.json: damaged",
    ),
    "hashes cut": (lambda at: rewrite(at / "trained_on.safetensors", b"x"), "trained_on.safetensors: no "),
    "newer": (lambda at: altered(at / "config.json", format_version=2), "config.json: format 2 is newer"),
    "settings missing": (
        lambda at: altered(at / "config.json", hyper_parameters=None),
        "config.json: hyper_parameters missing",
    ),
    "settings unknown": (
        lambda at: altered(at / "config.json", hyper_parameters={"depth": 101}),
        "its settings build no network of this version",
    ),
    "foreign code": (
        lambda at: altered(at / "config.json", hyper_parameters={"age": {"class_path": "os.system"}}),
        "os.system is not a class of this package",
    ),
    "settings of another version": (
        lambda at: altered(
            at / "config.json", hyper_parameters={"age": {"class_path": "mtmsa_lightning.heads_to_come.Head"}}
        ),
        "heads_to_come.Head cannot be imported: No module named",
    ),
    "foreign class": (
        lambda at: altered(
            at / "config.json", hyper_parameters={"age": {"class_path": "mtmsa_lightning.errors.MTMSAError"}}
        ),
        "MTMSAError is not a subclass of AgeHead",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_by_name(damage, copied):
    break_it, said = DAMAGE[damage]
    break_it(copied)
    with pytest.raises(CheckpointError) as caught:
        AgeEstimator.from_pretrained(copied, device="cpu")
    assert said in str(caught.value)
    assert str(copied) in str(caught.value) or "foreign" in damage


def test_a_folder_of_another_program_is_no_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not describe a network of this package"):
        MTMSA.load(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no checkpoint in this folder: it holds config\.json, model"):
        MTMSA.load(tmp_path)


def test_a_write_that_fails_leaves_the_old_folder_as_it_was(copied, model, monkeypatch):
    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    monkeypatch.setattr("safetensors.torch.save_file", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_pretrained({"hyper_parameters": {}, "state_dict": model.state_dict()}, copied)
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before


# ---------------------------------------------------------------- the verbs


@pytest.mark.slow
def test_every_verb_takes_the_folder_where_it_takes_a_checkpoint(trained, tmp_path, capsys, fails):
    """Test gives the metrics of the checkpoint, refuses trained faces; calibrate writes into the folder."""
    folder, config = tmp_path / "given", str(trained / "config.yaml")
    AgeEstimator.from_pretrained(trained, device="cpu").save_pretrained(folder)

    def metrics(path: Path, root: str) -> dict:
        out = ["--wandb=disabled", f"--trainer.default_root_dir={tmp_path / root}"]
        main(["test", "--config", config, f"--ckpt_path={path}", *out])
        (run,) = (tmp_path / root / "tiny").iterdir()
        return json.loads((run / "run.json").read_text())["test"]

    assert metrics(folder, "a") == metrics(trained, "b")
    elsewhere = ["--wandb=disabled", f"--trainer.default_root_dir={tmp_path / 'c'}"]
    said = fails("test", "--config", config, "--ckpt_path", folder, "--data.protocol=whole", *elsewhere)
    assert "were trained on by this checkpoint" in said
    assert f"--model.weights {folder}" in fails("fit", "--config", config, "--ckpt_path", folder)

    weights = (folder / "model.safetensors").read_bytes()
    main(["calibrate", "--config", config, "--ckpt_path", str(folder), "--part", "val"])
    assert (folder / "model.safetensors").read_bytes() == weights
    assert MTMSA.load(folder).calibration.fitted_on["part"] == "val"
    main(["calibrate", "--ckpt_path", str(folder), "--undo=true"])
    assert MTMSA.load(folder).calibration is None


def test_a_checkpoint_and_its_folder_read_alike(folder):
    read = read_pretrained(folder)
    assert equal(read["state_dict"], read_checkpoint(folder)["state_dict"])
    assert read["calibration"]["quantiles"] == {"0.5": 0.1 + 0.2, "0.95": None}


def test_pipes_in_place_of_records_do_not_block(tmp_path):
    """Opening one for reading waits for whoever writes into it."""
    for name in ("config.json", "config.yaml", "run.json", "plan.json"):
        os.mkfifo(tmp_path / name)
    assert not is_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_pretrained(tmp_path)
    assert read_config(tmp_path) == {}
    assert read_record(tmp_path) == {}
