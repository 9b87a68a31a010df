from itertools import chain

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.utils.data import DataLoader

from mtmsa_lightning import MTMSA
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.training.callbacks.ema import EMA, move_towards, pair_up

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "max_epochs": 2,
}  # fmt: skip


class Small(LightningModule):
    """Weights of two precisions and a BatchNorm, whose buffers are averages and a count."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 1).double()

    def training_step(self, batch, batch_idx):
        return self.last(self.norm(self.first(batch)).double()).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class AfterSteps(Callback):
    """Keeps what the network holds after each optimiser step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.seen):
            self.seen.append(values(pl_module))


def values(network):
    return [each.detach().clone() for each in chain(network.parameters(), network.buffers())]


def fit(average, accumulate=1, **settings):
    model, seen = Small(), AfterSteps()
    batches = DataLoader(torch.randn(24, 3, generator=torch.Generator().manual_seed(1)), batch_size=4)
    trainer = Trainer(callbacks=[average, seen], accumulate_grad_batches=accumulate, **QUIET | settings)
    trainer.fit(model, batches)
    return values(model), seen.seen


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "32"), (2, "32"), (4, "32"), (1, "64-true")])
def test_the_trained_network_is_the_average_of_its_steps(accumulate, precision):
    found, steps = fit(EMA(0.8), accumulate, precision=precision)
    assert len(steps) == 2 * -(-6 // accumulate)
    for place, value in enumerate(found):
        expected = steps[0][place].double()
        for step in steps[1:]:
            expected = 0.8 * expected + 0.2 * step[place].double()
        if not value.is_floating_point():
            expected = steps[-1][place]
        torch.testing.assert_close(value.double(), expected.double(), rtol=1e-6, atol=1e-7)


def test_it_agrees_with_lightnings_own():
    ours, theirs = fit(EMA(0.9))[0], fit(EMAWeightAveraging(decay=0.9))[0]
    for one, other in zip(ours, theirs, strict=True):
        if one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_what_the_network_gains_or_loses_later_is_let_alone():
    average, network = Small(), Small()
    average.lost, network.gained = nn.BatchNorm1d(2), nn.BatchNorm1d(3)
    with torch.no_grad():
        network.last.bias.fill_(3.0)
    move_towards(pair_up(average, network), 1.0)
    assert torch.equal(average.last.bias, network.last.bias)
    assert average.lost.weight.tolist() == [1, 1]


def test_the_average_is_kept_where_the_network_trains():
    """Not where it is when callbacks are set up: the Trainer moves it later."""
    trainer = Trainer(**QUIET)
    trainer.strategy._root_device = torch.device("meta")
    average = EMA(0.9)
    average.setup(trainer, Small(), "fit")
    assert {each.device.type for each in average._average_model.parameters()} == {"meta"}


def test_a_test_after_the_training_is_that_of_its_checkpoint(tiny_config, tmp_path):
    """Both of the averaged weights, which validation has chosen."""
    run, again = tmp_path / "run", tmp_path / "again"
    args = ["--config", str(tiny_config), "--ema", "0.9", "--trainer.max_epochs", "1"]
    main(["fit", *args, f"--run_dir={run}"])
    main(["test", "--ckpt_path", str(run), f"--run_dir={again}"])
    first, second = (pd.read_parquet(each / "predictions" / "test.parquet") for each in (run, again))
    pd.testing.assert_frame_equal(first, second, atol=1e-3)
    model, checkpoint = MTMSA.load(str(run)), torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    last = checkpoint["current_model_state"]["age.linear.weight"]
    assert not torch.equal(model.age.linear.weight, last), "and they are not those of the last step"
