"""What weights were trained on before travels along every chain of trainings, and no test forgets it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from mtmsa_lightning import MORPH, MTMSA, AgeEstimator
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.overlap import OverlapError, check_overlap
from mtmsa_lightning.data.splits import earlier_training as earlier
from mtmsa_lightning.data.synthetic import write_utkface
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.metadata import describe_export
from mtmsa_lightning.reports.card import card_of_checkpoint
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.initial_weights import earlier_trainings, load_initial_weights
from mtmsa_lightning.runs.pretrained import licence_note

SHORT = [
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1",
    "--checkpoint.monitor=val/loss",
]  # fmt: skip
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False, "max_steps": 1, "limit_val_batches": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def second(trained: Path, tiny_config: Path, tmp_path_factory) -> Path:
    """A run on other data, started from the weights of ``trained``, which is fold 0 of MORPH."""
    root = tmp_path_factory.mktemp("second")
    write_utkface(root / "utk", n_faces=30, seed=4, size=80)
    main([
        "fit", "--config", str(tiny_config), "--name=second", "--data=UTKFace", f"--data.root={root / 'utk'}",
        "--data.image_size=64", "--data.batch_size=8", "--data.num_workers=0", f"--model.weights={trained}",
        "--test_after_fit=false", f"--trainer.default_root_dir={root}", *SHORT,
    ])  # fmt: skip
    (run,) = (root / "second").iterdir()
    return run


@pytest.fixture(scope="module")
def folder(second: Path, tmp_path_factory) -> Path:
    """The same network as a folder of ``save_pretrained``, whose name says nothing of a run."""
    target = tmp_path_factory.mktemp("folder") / "ages"
    AgeEstimator.from_pretrained(second, device="cpu").save_pretrained(target)
    return target


def morph(root: Path, fold: int) -> MORPH:
    return MORPH(
        root=str(root), fold=fold, image_size=64, crop=1.0, batch_size=8, num_workers=0, val_fraction=0.25
    )


@pytest.mark.slow
def test_the_record_of_a_chain_names_and_hashes_all_of_it(trained, second, folder):
    first, last = (read_checkpoint(run)["provenance"] for run in (trained, second))
    (entry,) = last["earlier"]
    assert entry["fingerprints"] == first["fingerprints"]
    assert (entry["dataset"], entry["protocol"], entry["fold"], entry["weights"]) == (
        "synthetic-morph", "subject_exclusive", 0, trained.name,
    )  # fmt: skip
    for kind in ("id", "image"):
        known = set(last[f"earlier_{kind}_hashes"].tolist())
        assert known == set(first[f"train_{kind}_hashes"].tolist())
        assert not known & set(last[f"train_{kind}_hashes"].tolist())
        saved = read_checkpoint(folder)["provenance"][f"earlier_{kind}_hashes"]
        assert torch.equal(saved, last[f"earlier_{kind}_hashes"])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["second", "folder"])
def test_a_third_training_is_refused_before_it_begins_where_the_first_saw_its_test_faces(
    source, request, fails, tiny_config, tmp_path
):
    weights = request.getfixturevalue(source)
    message = fails(
        "fit", "--config", tiny_config, "--data.fold=1", f"--model.weights={weights}",
        f"--trainer.default_root_dir={tmp_path}", *SHORT,
    )  # fmt: skip
    assert "test faces were trained on by a network that its weights started from" in message
    assert "--allow_overlap true" in message
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
def test_an_overlap_that_is_allowed_stands_in_every_record(second, tiny_config, tmp_path):
    main([
        "fit", "--config", str(tiny_config), "--data.fold=1", f"--model.weights={second}",
        "--allow_overlap=true", f"--trainer.default_root_dir={tmp_path}", *SHORT,
    ])  # fmt: skip
    (run,) = (tmp_path / "tiny").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert [each["dataset"] for each in record["earlier"]] == ["synthetic-morph", "synthetic-utkface"]
    assert [each["dataset"] for each in record["trained_on"]["earlier"]] == [
        "synthetic-morph",
        "synthetic-utkface",
    ]
    assert "by a network that its weights started from" in record["overlap"][0]

    provenance = read_checkpoint(run)["provenance"]
    before = read_checkpoint(second)["provenance"]
    everything = {*before["earlier_id_hashes"].tolist(), *before["train_id_hashes"].tolist()}
    assert set(provenance["earlier_id_hashes"].tolist()) == everything
    card = card_of_checkpoint(run / "checkpoints" / "best.ckpt")
    assert "| earlier training data, 1 | synthetic-morph, subject_exclusive, fold 0, split seed 0" in card
    assert "| earlier training data, 2 | synthetic-utkface" in card
    assert record["overlap"][0] in card
    real = [{"dataset": each["dataset"].removeprefix("synthetic-")} for each in provenance["earlier"]]
    assert "MORPH" in licence_note({"dataset": "csv", "earlier": real})
    assert "UTKFace" in licence_note({"dataset": "csv", "earlier": real})


@pytest.mark.slow
def test_crossval_refuses_the_weights_of_a_fold_before_any_training(trained, tiny_config, tmp_path, fails):
    message = fails(
        "crossval", "--config", tiny_config, "--folds", "0-1", f"--model.weights={trained}",
        f"--trainer.default_root_dir={tmp_path}",
    )  # fmt: skip
    assert f"--model.weights {trained}, fold 1: " in message
    assert "--allow_overlap true" in message
    assert not list(tmp_path.rglob("*"))


@pytest.mark.slow
def test_plain_python_is_refused_too(trained, second, morph_root):
    for model in (MTMSA.load(str(trained)), MTMSA(**read_checkpoint(second)["hyper_parameters"])):
        model.weights = str(second)
        with pytest.raises(OverlapError, match="by a network that its weights started from"):
            Trainer(**QUIET).fit(model, morph(morph_root, 1))


@pytest.mark.slow
def test_training_goes_on_from_loaded_weights_on_the_same_split(trained, morph_root, tmp_path):
    """That adds nothing to what was before; another split does, in the same process as well."""
    model = MTMSA.load(str(trained)).train()
    trainer = Trainer(**QUIET)
    trainer.fit(model, morph(morph_root, 0))
    assert "earlier" not in model.provenance
    assert "train_id_hashes" in model.provenance
    model.allow_overlap = True
    trainer = Trainer(**QUIET)
    trainer.fit(model, morph(morph_root, 1))
    trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    (entry,) = read_checkpoint(tmp_path / "x.ckpt")["provenance"]["earlier"]
    assert entry["fold"] == 0


@pytest.mark.slow
def test_a_test_on_other_data_is_no_training(trained, morph_root, tmp_path):
    model = MTMSA.load(str(trained))
    model.allow_overlap = True
    trainer = Trainer(**QUIET, limit_test_batches=1)
    trainer.test(model, morph(morph_root, 1), verbose=False)
    trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert read_checkpoint(tmp_path / "x.ckpt")["provenance"]["fold"] == 0


# ------------------------------------------------------------------------ the record alone


def provenance(fold: int, *faces: int, **more: object) -> dict[str, object]:
    hashes = torch.tensor(faces)
    return {
        "dataset": "morph", "protocol": "random", "fold": fold, "fingerprints": {"train": f"print{fold}"},
        "train_id_hashes": hashes, "train_image_hashes": hashes + 100, **more,
    }  # fmt: skip


def test_hashes_add_up_and_the_same_split_adds_none():
    first = provenance(0, 1, 2)
    second = provenance(1, 2, 3) | earlier.of_network(first, "runs/a", {"train": "print1"})
    third = earlier.of_network(second, "runs/b", {"train": "print2"})
    assert third["earlier_id_hashes"].tolist() == [1, 2, 3]
    assert third["earlier_image_hashes"].tolist() == [101, 102, 103]
    assert [each["weights"] for each in third["earlier"]] == ["a", "b"]
    same = earlier.of_network(second, "runs/b", {"train": "print1"})
    assert same["earlier_id_hashes"].tolist() == [1, 2]
    assert len(same["earlier"]) == 2
    assert earlier.inherited(second, {"train": "print1"}).keys() == set(earlier.EARLIER)
    assert len(earlier.inherited(second, {"train": "print2"})["earlier"]) == 2
    assert earlier.inherited(first, {"train": "print0"}) == {}


def test_hashes_of_a_network_whose_images_were_not_all_hashed_are_not_taken_for_all():
    early = provenance(0, 1, 2) | {"train_image_hashes": None}
    second = provenance(1, 2, 3) | earlier.of_network(early, "runs/a", {"train": "print1"})
    assert second["earlier_id_hashes"].tolist() == [1, 2]
    assert second["earlier_image_hashes"] is None
    assert earlier.of_network(second, "runs/b", {"train": "print2"})["earlier_image_hashes"] is None


def test_foreign_weights_are_recorded_with_what_is_known(tmp_path, trained):
    assert earlier_trainings(None, None, {}) == {}
    (imagenet,) = earlier_trainings("imagenet", None, {})["earlier"]
    assert earlier.describe(imagenet) == "ImageNet-1k (weights imagenet)"
    file = tmp_path / "bare.pth"
    hyper_parameters = read_checkpoint(trained)["hyper_parameters"]
    torch.save(read_checkpoint(trained)["state_dict"], file)
    known = load_initial_weights(MTMSA(**hyper_parameters), str(file))
    (bare,) = earlier_trainings(str(file), known, {})["earlier"]
    assert bare["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "bare.pth" in earlier.describe(bare)
    assert "data that is not recorded" in earlier.describe(bare)
    (unknown,) = earlier_trainings("runs/old", {}, {})["earlier"]
    assert "its faces are not recorded" in earlier.describe(unknown)
    assert "data that is not recorded" in licence_note(provenance(0) | {"earlier": [bare]})


def test_calibration_on_faces_of_an_earlier_training_is_refused(trained, morph_root):
    """Also where the part chose the checkpoint, so that the checkpoint's own faces are not compared."""
    data = morph(morph_root, 1)
    data.prepare_data()
    data.setup("test")
    record = earlier.of_network(read_checkpoint(trained)["provenance"], "a")
    with pytest.raises(OverlapError, match="val faces were trained on by a network"):
        check_overlap(record, data, part="val", own=False)


def test_an_exported_model_says_so(trained):
    model = MTMSA.load(str(trained))
    model.provenance |= earlier.of_network(model.provenance, "a")
    described = describe_export(model, ("age_mean",), Precision.FP32, dynamic=False)
    assert "earlier" in str(described["trained_on"])
    assert "before on synthetic-morph" in model.describe()
