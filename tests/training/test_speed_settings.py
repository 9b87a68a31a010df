"""Settings that make training faster or smaller leave weights, checkpoints and results interchangeable."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision
from narrow_network import full_width
from torch._dynamo.testing import CompileCounterWithBackend

from mtmsa_lightning import MORPH, MTMSA, MSAConfig
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training import lightning_cli as training
from mtmsa_lightning.training.compilation import compile_network

SMALL = {"msa": MSAConfig(rates=(1, 2), stages=(1,)), "image_size": 64, "race_classes": ("white", "black")}
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip


CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Float32 in another order."""


def batch_of(n: int) -> dict:
    """A batch as a loader hands it over: channels last, ages whole years."""
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 64, 64, 3), dtype=torch.uint8, generator=generator)
    ages = torch.randint(16, 70, (n,), generator=generator).double()
    return {
        "image": images.permute(0, 3, 1, 2), "age_low": ages, "age_high": ages,
        "gender": torch.arange(n) % 2, "race": torch.arange(n) % 2,
    }  # fmt: skip


def model_of(**settings) -> MTMSA:
    torch.manual_seed(0)
    model = MTMSA(**(SMALL | settings))
    model.age.set_age_statistics(33, 11)
    for module in model.trunk.msa.values():
        torch.nn.init.normal_(module.expand.weight, std=0.05)  # as after some training
    return model


def gradients(model: MTMSA, n: int = 4) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of a batch and its gradients."""
    model.zero_grad()
    batch = batch_of(n)
    loss = model.total_loss(model.losses(model(batch["image"]), batch))
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def compiled(model: MTMSA) -> CompileCounterWithBackend:
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compile_network(model, counter)
    return counter


def assert_same_weights(one: MTMSA, other: MTMSA, **tolerance) -> None:
    assert list(one.state_dict()) == list(other.state_dict())
    for name, value in one.state_dict().items():
        torch.testing.assert_close(
            other.state_dict()[name], value, msg=lambda m, n=name: f"{n}: {m}", **tolerance
        )


# ------------------------------------------------------------------ one step


@pytest.mark.parametrize(
    "settings",
    [
        {"channels_last": True},
        {"checkpoint_activations": True},
        {"channels_last": True, "checkpoint_activations": True},
        {"channels_last": True, "checkpoint_activations": True, "compile": True},
    ],
)
def test_a_step_gives_the_same_loss_gradients_and_statistics(settings):
    """In float64: in float32 a ReLU near zero may fall to the other side, and its gradient with it."""
    settings, plain = dict(settings), model_of().double()
    to_compile = settings.pop("compile", False)
    model = model_of(**settings).double()
    if to_compile:
        compiled(model)
    loss, expected = gradients(plain)
    same, found = gradients(model)
    torch.testing.assert_close(same, loss)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9)
    assert_same_weights(plain, model, rtol=1e-9, atol=1e-12)


def test_channels_last_holds_from_image_to_weights():
    model = model_of(channels_last=True)
    layouts = {
        name: p.is_contiguous(memory_format=torch.channels_last)
        for name, p in model.named_parameters()
        if p.ndim == 4
    }
    assert all(layouts.values())
    images = batch_of(2)["image"]
    assert model.normalise(images).is_contiguous(memory_format=torch.channels_last)
    assert model.trunk.stage_maps(model.normalise(images))[0].is_contiguous(memory_format=torch.channels_last)
    assert model_of().normalise(images).is_contiguous()


def test_any_number_of_faces_is_compiled_twice_and_computes_the_same():
    plain, model = model_of().eval(), model_of().eval()
    counter = compiled(model)
    with torch.no_grad():
        for n in (8, 8, 3, 5, 8, 2):
            images = batch_of(n)["image"]
            for one, other in zip(model(images), plain(images), strict=True):
                if isinstance(one, torch.Tensor):
                    torch.testing.assert_close(one, other)
    assert counter.frame_count == 2, "for the first number, and for any number"


def test_half_precision_is_compiled_too():
    plain, model = (model_of(msa=None, channels_last=True) for _ in range(2))
    compiled(model)
    with torch.autocast("cpu", torch.bfloat16):
        (expected, _), (loss, found) = gradients(plain), gradients(model)
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0)
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_a_compiled_model_keeps_its_names_and_its_copies_are_their_own():
    model = model_of()
    names = list(model.state_dict())
    compiled(model)
    assert list(model.state_dict()) == names
    other = copy.deepcopy(model)  # as averaged weights are
    torch.nn.init.zeros_(other.trunk.conv1.weight)
    assert model.trunk.conv1.weight.any()
    expected = model_of()
    torch.nn.init.zeros_(expected.trunk.conv1.weight)
    torch.testing.assert_close(gradients(other)[0], gradients(expected)[0])


def test_compiling_without_a_compiler_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        compile_network(model_of())


# ------------------------------------------------------------------ mirrored faces


def test_flip_test_averages_what_the_heads_say_of_a_face_and_its_mirror_image():
    plain, model = model_of().eval(), model_of(flip_test=True).eval()
    images = batch_of(4)["image"]
    with torch.no_grad():
        one, two, both = plain(images), plain(images.flip(-1)), model(images)
        assert not torch.allclose(one.age.mean, two.age.mean)
        torch.testing.assert_close(both.age.mean, (one.age.mean + two.age.mean) / 2, **CLOSE)
        torch.testing.assert_close(both.gender, (one.gender + two.gender) / 2, **CLOSE)
        torch.testing.assert_close(both.race, (one.race + two.race) / 2, **CLOSE)
        torch.testing.assert_close(both.age_raw, (one.age_raw + two.age_raw) / 2, **CLOSE)
        torch.testing.assert_close(model(images.flip(-1)).age.mean, both.age.mean, **CLOSE)


HEADS = [name for name in age_heads.__all__ if name != "AgeHead"]


@pytest.mark.parametrize("head", HEADS)
def test_every_age_head_averages_its_outputs(head):
    torch.manual_seed(0)
    built = getattr(age_heads, head)(8).eval()
    one, two = torch.randn(2, 3, 8)
    with torch.no_grad():
        average = (built.raw(one) + built.raw(two)) / 2
        torch.testing.assert_close(built.raw((one + two) / 2), average, rtol=1e-5, atol=1e-5)


def test_training_does_not_see_mirror_images_twice():
    torch.testing.assert_close(gradients(model_of(flip_test=True)), gradients(model_of()), rtol=0, atol=0)


# ------------------------------------------------------------------ runs and checkpoints


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_joined_batch(morph_root):
    """Every face has all labels. Heads alone learn: BatchNorm, which sees the smaller batches, stays out."""
    weights = []
    for batch_size, batches in ((8, 1), (4, 2)):
        data = MORPH(root=str(morph_root), image_size=64, batch_size=batch_size, num_workers=0, augment=False)
        with full_width():  # narrow ones have larger gradients, and rounding
            model = model_of(msa=None, freeze_epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1))
        trainer = Trainer(
            max_epochs=1, limit_train_batches=2 * batches, accumulate_grad_batches=batches, **QUIET
        )
        trainer.fit(model, data)
        assert trainer.global_step == 2
        weights.append(model)
    assert_same_weights(*weights)


@pytest.mark.slow
def test_a_step_takes_the_mean_of_its_batches_each_divided_by_its_own_labels(morph_root):
    """Three batches, two of them accumulated, with unequal numbers of labels; heads alone learn."""
    batches = []

    class Hide(Callback):
        def on_train_batch_start(self, trainer, model, batch, index):
            batch["gender"][index:] = -1
            batch["age_low"][5 - index :] = batch["age_high"][5 - index :] = torch.nan
            batches.append(batch)

    data = MORPH(root=str(morph_root), image_size=64, batch_size=8, num_workers=0, augment=False)
    settings = {
        "msa": None, "race": None, "freeze_epochs": 1, "optimizer": partial(torch.optim.SGD, lr=0.1),
        "scheduler": partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0),
    }  # fmt: skip
    model, expected = model_of(**settings), model_of(**settings)
    trainer = Trainer(
        max_epochs=1, limit_train_batches=3, limit_val_batches=0, accumulate_grad_batches=2,
        callbacks=[Hide()], **QUIET,
    )  # fmt: skip
    trainer.fit(model, data)
    expected.trunk.train_pretrained(False)
    heads = [p for head in (expected.age, expected.gender) for p in head.parameters()]
    for step in (batches[:2], batches[2:]):
        losses = [expected.losses(expected(batch["image"]), batch) for batch in step]
        means = [
            0 if count == 0 else weight * loss / count
            for each in losses
            for weight, (loss, count) in zip((1, 0.2), each.values(), strict=True)
        ]
        gradients = torch.autograd.grad(sum(means) / len(step), heads, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(heads, gradients, strict=True):
                parameter -= 0 if gradient is None else 0.1 * gradient
    assert trainer.global_step == 2
    assert_same_weights(model.age, expected.age, rtol=1e-4, atol=1e-6)
    assert_same_weights(model.gender, expected.gender, rtol=1e-4, atol=1e-6)


def test_a_loaded_optimiser_is_laid_out_as_its_parameters():
    """A fused kernel walks through weight and state in the order of memory: one step tells."""
    plain = model_of(optimizer=partial(torch.optim.AdamW, fused=True)).double()
    optimizer = optimiser_of(plain)
    gradients(plain)
    optimizer.step()
    other = model_of(channels_last=True, optimizer=plain.optimizer).double()
    other.load_state_dict(plain.state_dict())
    continued = optimiser_of(other)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, stepped in ((plain, optimizer), (other, continued)):
        gradients(model)
        stepped.step()
    assert_same_weights(plain, other, rtol=1e-6, atol=1e-7)


def optimiser_of(model: MTMSA) -> torch.optim.Optimizer:
    model.scheduler = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
    return model.configure_optimizers()["optimizer"]


SCALED = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))


@pytest.mark.parametrize(
    "precision", [{"precision": "bf16-mixed"}, {"plugins": [SCALED]}], ids=["bf16", "fp16"]
)
def test_a_fused_optimiser_moves_weights_by_the_clipped_gradient(morph_root, precision):
    """One step of plain descent: its length says what was clipped, and when."""
    seen = {}

    class Norms(Callback):
        def on_before_optimizer_step(self, trainer, model, optimizer):
            seen["gradient"] = norm(p.grad for p in model.parameters() if p.grad is not None)

    model = model_of(
        msa=None, optimizer=partial(torch.optim.SGD, lr=0.5, fused=True),
        scheduler=partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0),
    )  # fmt: skip
    before = [p.detach().clone() for p in model.parameters()]
    data = MORPH(root=str(morph_root), image_size=64, batch_size=8, num_workers=0)
    trainer = Trainer(
        max_steps=1, limit_val_batches=0, gradient_clip_val=0.01, callbacks=[Norms()], **QUIET, **precision
    )
    trainer.fit(model, data)
    moved = norm(p.detach() - old for p, old in zip(model.parameters(), before, strict=True))
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)
    assert 1 < seen["gradient"] < 1000, "that of the loss, not of 1024 times the loss"


def norm(tensors) -> float:
    return torch.cat([each.flatten() for each in tensors]).double().norm().item()


FAST = [
    "--compile=true", "--model.channels_last=true", "--model.checkpoint_activations=true",
    "--model.optimizer.init_args.fused=true",
]  # fmt: skip
"""What may be switched when a run is continued."""


@pytest.mark.slow
def test_runs_with_and_without_continue_each_other(tiny_config, tmp_path, monkeypatch):
    """With accumulation and averaged weights throughout."""
    monkeypatch.setattr(training, "compile_network", partial(compile_network, backend="aot_eager"))
    run = tmp_path / "run"
    args = ["fit", "--config", str(tiny_config), f"--run_dir={run}", "--ema=0.9"]
    for epochs, settings in enumerate(([], FAST, []), start=1):
        tested = f"--test_after_fit={str(epochs == 3).lower()}"
        accumulated = "--trainer.accumulate_grad_batches=2"
        main([*args, accumulated, f"--trainer.max_epochs={epochs}", tested, *settings])
        check_checkpoint(run / "checkpoints" / "last.ckpt")
    record = read_record(run)
    assert (record["epochs"], len(record["continued"])) == (3, 2)
    assert np.isfinite(pd.read_parquet(run / "predictions" / "test.parquet")["age_mean"]).all()


def check_checkpoint(file: Path) -> None:
    """Check that nothing in a checkpoint but its settings tells how it was made."""
    checkpoint = torch.load(file, weights_only=True)
    assert all(value.is_contiguous() for value in checkpoint["state_dict"].values())
    loaded = MTMSA.load(str(file))
    assert list(checkpoint["state_dict"]) == list(loaded.state_dict())
    settings = {"channels_last": False, "checkpoint_activations": False}
    plain = MTMSA(**(checkpoint["hyper_parameters"] | settings)).eval()
    plain.load_state_dict(checkpoint["state_dict"])
    images = batch_of(3)["image"]
    with torch.no_grad():
        ages, expected = loaded.double()(images).age.mean, plain.double()(images).age.mean
    torch.testing.assert_close(ages, expected, **CLOSE)
