"""Soft labels of trained networks: what they are, and a training with them."""

import logging
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from untrained_networks import network, provenance, save_checkpoint

from mtmsa_lightning import MORPH, MTMSA, CoralAgeHead, DLDLv2AgeHead, L1AgeHead, MSAConfig
from mtmsa_lightning.data.splits.earlier_training import describe, with_teachers
from mtmsa_lightning.runs.teacher import Teacher

HEADS = [None, CoralAgeHead, DLDLv2AgeHead, L1AgeHead]


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)


def test_a_network_does_not_differ_from_itself(images):
    model = network()
    model.provenance["trained_classes"] = {}
    losses = Teacher({"x.ckpt": network()}, model).losses(model(images), images)
    assert set(losses) == {"age", "gender", "race"}
    for total, count in losses.values():
        assert abs(total.item()) < 1e-5
        assert count == 3


def test_soft_labels_are_the_mean_of_calibrated_predictions(images, calibration):
    one, other, student = network(1), network(2), network(3)
    one.calibration = calibration
    losses = Teacher({"a": one, "b": other}, student).losses(student(images), images)
    with torch.no_grad():
        gender = [each.calibrated(each(images)).gender.double().softmax(1) for each in (one, other)]
        expected = F.kl_div(
            student(images).gender.double().log_softmax(1), (gender[0] + gender[1]) / 2, reduction="sum"
        )
        ages = [each.calibrated(each(images)).age for each in (one, other)]
        cells = [
            (float("-inf"), 0.5),
            *((year - 0.5, year + 0.5) for year in range(1, 110)),
            (109.5, float("inf")),
        ]
        target = sum(torch.stack([age.interval_prob(*cell) for cell in cells], 1) for age in ages) / 2
        log_probs = torch.stack([student(images).age.log_interval_prob(*cell) for cell in cells], 1)
        divergence = F.kl_div(log_probs.clamp(min=-27.6), target, reduction="sum")
    torch.testing.assert_close(losses["gender"][0], expected)
    torch.testing.assert_close(losses["age"][0], divergence, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_every_age_head_learns_from_another(head, images):
    torch.manual_seed(0)
    student = MTMSA(msa=None, image_size=64, age=head or partial(CoralAgeHead), gender=None)
    student.age.set_age_statistics(30, 10)
    losses = Teacher({"x": network()}, student).losses(student(images), images)
    total, _ = losses["age"]
    total.backward()
    assert total.isfinite()
    assert student.age.linear.weight.grad.isfinite().all()
    assert student.age.linear.weight.grad.any()


def test_faces_are_resized_to_the_input_of_the_teacher(images):
    student = MTMSA(msa=None, image_size=64, race=None)
    teacher = Teacher({"x": network(image_size=96, crop=0.9)}, student)
    seen = []
    teacher.networks[0].trunk.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    teacher.losses(student(images), images)
    assert seen == [(3, 3, 96, 96)]


def test_tasks_that_a_teacher_cannot_teach_are_named(images, caplog):
    student = network(race_classes=("white", "black", "hispanic"))
    with caplog.at_level(logging.WARNING):
        teacher = Teacher({"x": network(), "y": network(age=None, crop=0.5)}, student)
    assert "not all have an age head: ages are learnt from the labels alone" in caplog.text
    assert "no race hispanic in one of its networks: race is learnt from the labels alone" in caplog.text
    assert "trained on crops of 0.5, these are of 1.0" in caplog.text
    assert set(teacher.losses(student(images), images)) == {"gender"}


def test_classes_are_matched_by_name(images):
    student, other = network(race_classes=("Asian", "white")), network()
    target = other(images).race[:, [2, 0]].double().softmax(1)
    losses = Teacher({"x": other}, student).losses(student(images), images)
    expected = F.kl_div(student(images).race.double().log_softmax(1), target, reduction="sum")
    torch.testing.assert_close(losses["race"][0], expected)


def test_trainings_of_teachers_are_recorded_with_their_faces():
    start: dict = {"earlier": [{"dataset": "ImageNet-1k"}], "earlier_id_hashes": torch.tensor([1])}
    joined = with_teachers(
        start, {"runs/a.ckpt": provenance(fold=0, split_seed=0), "b.ckpt": None}, {"train": "other"}
    )
    assert [each.get("role") for each in joined["earlier"]] == [None, "teacher", "teacher"]
    assert joined["earlier_id_hashes"].tolist() == sorted([2**62 + 1, -5, 1])
    assert joined["earlier_image_hashes"].tolist() == [7]
    assert "of a teacher; weights a.ckpt" in describe(joined["earlier"][1])
    assert start.keys() == {"earlier", "earlier_id_hashes"}


def test_a_training_learns_from_a_teacher_alone(trained, morph_root, tmp_path):
    """With a weight of 1 labels have no effect; the teacher is in no checkpoint and is not changed."""
    states = []
    for shift in (0, 20):
        torch.manual_seed(0)
        data = MORPH(root=str(morph_root), image_size=64, batch_size=8, num_workers=0, augment=False)
        model = MTMSA(
            msa=MSAConfig(rates=(1,), stages=(1,)), image_size=64, teacher=str(trained), teacher_weight=1.0,
            race_classes=data.race_classes, gender_weight=0.0, race_weight=0.0,
        )  # fmt: skip
        model.age.set_age_statistics(40, 10)
        model.allow_overlap = True
        trainer = Trainer(
            max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        own = model.losses
        model.losses = lambda output, batch, shift=shift, own=own: own(
            output, {**batch, "age_low": batch["age_low"] + shift, "age_high": batch["age_high"] + shift}
        )
        trainer.fit(model, data)
        states.append(model.state_dict())
        assert model.provenance["earlier"][0]["role"] == "teacher"
        assert model.hparams["teacher"] == [str(trained)]
    assert not any("teacher" in key or "taught" in key for key in states[0])
    trunk = {key: value for key, value in states[0].items() if not key.startswith(("metrics", "source"))}
    for key, value in trunk.items():
        assert torch.equal(value, states[1][key]), key


def test_a_teacher_that_saw_the_test_faces_is_refused(fails, trained, tiny_config, tmp_path):
    arguments = ["--model.teacher", trained, "--data.fold", 1, "--run_dir", tmp_path / "run"]
    message = fails("fit", "--config", tiny_config, *arguments)
    assert "test faces were trained on by" in message


def test_a_missing_teacher_is_named_before_torch_is_imported(fails, tiny_config):
    assert "--model.teacher nowhere.ckpt: no such file" in fails(
        "fit", "--config", tiny_config, "--model.teacher", "[nowhere.ckpt]"
    )


def test_save_checkpoint_keeps_the_name_of_the_teacher_only(tmp_path):
    from mtmsa_lightning import AgeEstimator

    model = network(teacher=["/home/somebody/secret/t.ckpt"])
    file = save_checkpoint(model, tmp_path / "x.ckpt")
    AgeEstimator.from_pretrained(str(file), device="cpu").save_pretrained(tmp_path / "folder")
    assert "secret" not in (tmp_path / "folder" / "config.json").read_text()
    assert MTMSA.load(str(tmp_path / "folder")).teacher == ["t.ckpt"]
