from types import SimpleNamespace

from mtmsa_lightning import training
from mtmsa_lightning.callbacks.console import LossBar
from mtmsa_lightning.cli import main


class Loss:
    """A value on a device; counts how often it is read."""

    def __init__(self):
        self.value, self.reads = 0.0, 0

    def __float__(self):
        self.reads += 1
        return self.value


def test_the_bar_shows_the_loss_and_reads_it_rarely():
    bar, loss = LossBar(), Loss()
    trainer = SimpleNamespace(
        loggers=[], progress_bar_metrics={"val/age_mae": 5.0}, callback_metrics={}, global_step=0
    )
    assert bar.get_metrics(trainer, None) == {"val/age_mae": 5.0}
    trainer.callback_metrics["loss"] = loss
    shown = []
    for trainer.global_step in range(1, 61):
        loss.value = float(trainer.global_step)
        shown.append(bar.get_metrics(trainer, None)["loss"])
    assert shown == [1.0] * 19 + [20.0] * 20 + [40.0] * 20 + [60.0]
    assert loss.reads == 4


def test_a_bar_of_the_users_takes_its_place(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LossBar", None)
    place = ["--config", str(tiny_config), f"--run_dir={tmp_path}/run", "--trainer.enable_progress_bar=null"]
    own = "--trainer.callbacks+=lightning.pytorch.callbacks.TQDMProgressBar"
    main(["fit", *place, own, "--trainer.max_epochs=1", "--test_after_fit=false"])
