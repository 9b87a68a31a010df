import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.optim.schedulers import BatchSize, WarmupCosine
from mtmsa_lightning.training.lightning_cli import UnstartedCLI
from mtmsa_lightning.training.trainer_commands import run_trainer_command

SHARES = st.floats(0, 1)


def make(total: int | None = None, lrs: tuple[float, ...] = (0.1,), **arguments: float) -> WarmupCosine:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    return WarmupCosine(torch.optim.SGD(groups), total_steps=total, **arguments)


def walk(scheduler: WarmupCosine, steps: int) -> list[list[float]]:
    """Return the learning rates that the next steps are taken with."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_rates_by_hand():
    """Ten steps, three of them warm up; the cosine then falls from 1 to 0.2 within seven steps."""
    expected = [0.25, 0.5, 0.75] + [0.2 + 0.4 * (1 + math.cos(math.pi * step / 7)) for step in range(7)]
    rates = walk(make(10, lrs=(0.1, 2.0), warmup=0.3, final=0.2), 13)
    for base, column in zip((0.1, 2.0), zip(*rates, strict=True), strict=True):
        assert list(column) == pytest.approx([base * factor for factor in [*expected, 0.2, 0.2, 0.2]])


def test_without_warmup_the_first_step_has_the_full_rate():
    assert walk(make(4, warmup=0, final=0), 5) == [
        [pytest.approx(0.1 * (1 + math.cos(math.pi * step / 4)) / 2, abs=1e-12)] for step in range(5)
    ]


@given(
    warmup=st.floats(0, 1, exclude_max=True),
    final=SHARES,
    total=st.integers(1, 2000),
    step=st.integers(0, 3000),
)
def test_factor_is_positive_bounded_and_has_one_peak(warmup, final, total, step):
    scheduler = make(total, warmup=warmup, final=final)
    rising = round(warmup * total)
    here, there = scheduler.factor(step), scheduler.factor(step + 1)
    assert min(final, 1 / (rising + 1)) <= here + 1e-12
    assert here <= 1 + 1e-12
    assert scheduler.factor(total + step) == pytest.approx(final if rising < total or step else 1)
    assert there >= here if step < rising else there <= here + 1e-12
    assert scheduler.factor(rising) == pytest.approx(1)


def test_set_total_steps_equals_a_scheduler_made_with_them():
    late = make(lrs=(0.1, 2.0), warmup=0.3, final=0.2)
    late.set_total_steps(10)
    made = make(10, lrs=(0.1, 2.0), warmup=0.3, final=0.2)
    assert late.get_last_lr() == made.get_last_lr() == [0.1 / 4, 2.0 / 4]
    assert walk(late, 12) == walk(made, 12)


@pytest.mark.parametrize("total", [0, 1])
def test_a_training_without_steps_does_not_divide_by_zero(total):
    scheduler = make(warmup=0.05)
    scheduler.set_total_steps(total)
    assert walk(scheduler, 1) == [[pytest.approx(0.1)]]


@pytest.mark.parametrize("stop", [0, 2, 3, 7, 10])
def test_a_resumed_schedule_continues_identically(tmp_path, stop):
    """As Lightning does: a new optimiser and scheduler, sized anew, then both states loaded."""
    settings = {"lrs": (0.1, 2.0), "warmup": 0.3, "final": 0.2}
    whole = make(10, **settings)
    expected = walk(whole, 12)
    first = make(10, **settings)
    walk(first, stop)
    file = tmp_path / "state.ckpt"
    torch.save({"optimizer": first.optimizer.state_dict(), "scheduler": first.state_dict()}, file)
    state = torch.load(file, weights_only=True)
    second = make(**settings)
    second.set_total_steps(10)
    second.optimizer.load_state_dict(state["optimizer"])
    second.load_state_dict(state["scheduler"])
    assert walk(second, 12 - stop) == expected[stop:]
    assert second.get_last_lr() == whole.get_last_lr()


@pytest.mark.parametrize(
    ("argument", "value"),
    [("warmup", -0.1), ("warmup", 1), ("warmup", 100), ("final", -0.01), ("final", 1.5)],
)
def test_shares_outside_their_range_are_refused(argument, value):
    with pytest.raises(ValueError, match=rf"{argument} {value}.*choose a value"):
        make(10, **{argument: value})


@pytest.mark.parametrize(("fixed", "equal"), [(10, True), (None, False)])
def test_a_run_continued_for_longer_equals_a_longer_one_only_with_fixed_total_steps(fixed, equal):
    """The Trainer's limit, 4 and then 10 steps, is the length of a schedule without total_steps."""
    first, second = make(fixed or 4), make(fixed or 10)
    rates = walk(first, 4)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    if fixed is None:
        second.set_total_steps(10)
    whole = walk(make(10), 10)
    rates += walk(second, 6)
    assert (rates[:4] == whole[:4]) is equal
    assert rates[4:] == [pytest.approx(rate) for rate in whole[4:]]


def test_a_run_continued_for_longer_follows_the_longer_schedule():
    short, longer = make(10, warmup=0), make(20, warmup=0)
    walk(short, 10)
    continued = make(20, warmup=0)
    continued.load_state_dict(short.state_dict())
    continued.step()
    assert continued.get_last_lr() == [walk(longer, 12)[-1][0]]


@pytest.mark.parametrize(
    ("scaling", "own", "expected"),
    [
        ("none", 64, 1e-3),
        ("linear", 64, 3e-3),
        ("sqrt", 48, 2e-3),
        ("linear", 192, 1e-3),
        ("sqrt", 768, 5e-4),
    ],
)
def test_the_learning_rate_follows_the_global_batch_as_chosen(scaling, own, expected):
    """24 faces on each of four devices, accumulated twice: 192. The schedule starts from the scaled rate."""
    model = MTMSA(msa=None, lr_scaling=scaling, lr_batch_size=own, image_size=64)
    data = SimpleNamespace(batch_size=24)
    model._trainer = SimpleNamespace(
        datamodule=data, world_size=4, accumulate_grad_batches=2, estimated_stepping_batches=10, max_epochs=1
    )
    configured = model.configure_optimizers()
    assert BatchSize.of(model._trainer).total == 192
    assert [group["initial_lr"] for group in configured["optimizer"].param_groups] == pytest.approx(
        [expected] * len(configured["optimizer"].param_groups)
    )


ONE_CYCLE = partial(OneCycleLR, max_lr=0.1)


@pytest.mark.parametrize(
    ("scheduler", "interval", "total"),
    [
        (WarmupCosine, "step", 30),
        (lambda optimizer: WarmupCosine(optimizer), "epoch", 3),
        (ONE_CYCLE, "step", 30),
        (ONE_CYCLE, "epoch", 3),
        (partial(OneCycleLR, max_lr=0.1, total_steps=7), "step", 7),
        (partial(OneCycleLR, max_lr=0.1, epochs=2, steps_per_epoch=5), "step", 10),
        (partial(StepLR, step_size=2), "step", None),
    ],
)
def test_a_schedule_that_needs_the_length_of_the_training_is_given_it(scheduler, interval, total):
    model = MTMSA(msa=None, image_size=64, scheduler=scheduler, scheduler_interval=interval)
    model._trainer = SimpleNamespace(estimated_stepping_batches=30, max_epochs=3)
    built = model.configure_optimizers()["lr_scheduler"]["scheduler"]
    assert getattr(built, "total", getattr(built, "total_steps", None)) == total


def test_a_schedule_of_the_command_line_is_given_the_length(tiny_config):
    one_cycle = ["--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=0.1"]
    model = run_trainer_command("fit", [f"--config={tiny_config}", *one_cycle], UnstartedCLI).model
    model._trainer = SimpleNamespace(estimated_stepping_batches=30, max_epochs=3)
    assert model.configure_optimizers()["lr_scheduler"]["scheduler"].total_steps == 30


def test_a_batch_says_what_it_is_made_of():
    assert str(BatchSize(64, 8, 1)) == "64 faces x 8 devices = 512"
    assert str(BatchSize(64, 8, 2)) == "64 faces x 8 devices x 2 accumulated = 1024"


def test_a_scaled_learning_rate_needs_the_batch_size_of_the_data():
    model = MTMSA(msa=None, lr_scaling="linear", image_size=64)
    for trainer in (SimpleNamespace(datamodule=object()), SimpleNamespace()):
        model._trainer = trainer
        with pytest.raises(ConfigError, match=r"model\.lr_scaling linear needs the faces per step"):
            model.configure_optimizers()
