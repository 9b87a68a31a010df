"""Learning rate, gradients and speed: by hand, and in the metrics.csv of real runs with any loggers."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.training.callbacks.training_monitor import TrainingMonitor

COLUMNS = {
    "lr/trunk", "lr/attention", "lr/heads", "train/grad_norm", "train/grad_norm_max",
    "speed/images_per_second",
}  # fmt: skip


class Model(torch.nn.Linear):
    """Keeps what it is given to log."""

    def log_dict(self, metrics):
        self.logged = {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("validation", [0.0, 10.0])
def test_speed_and_gradient_norms_are_those_of_the_epoch_without_validation(monkeypatch, validation):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    model = Model(1, 2, bias=False)
    groups = [
        {"name": "heads", "lr": 0.5},
        {"name": "heads_undecayed", "lr": 0.5},
        {"name": "trunk", "lr": 0.0},
    ]
    optimizer = SimpleNamespace(param_groups=groups)
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    monitor = TrainingMonitor()
    monitor.on_train_epoch_start(trainer, model)
    for gradient, waits, works in (([3.0, 4.0], 1, 2), ([0.0, 1.0], 1, 4)):
        clock[0] += waits
        monitor.on_train_batch_start(trainer, model, {"image": torch.zeros(6, 1)}, 0)
        model.weight.grad = torch.tensor(gradient).view(2, 1)
        monitor.on_before_optimizer_step(trainer, model, optimizer)
        clock[0] += works
        monitor.on_train_batch_end(trainer, model, None, None, 0)
        monitor.on_validation_start(trainer, model)
        clock[0] += validation
        monitor.on_validation_end(trainer, model)
    monitor.on_train_epoch_end(trainer, model)
    assert model.logged == {
        "lr/heads": 0.5, "lr/trunk": 0.0,
        "speed/images_per_second": pytest.approx(2 * 12 / 8), "speed/data_wait_share": pytest.approx(2 / 8),
        "train/grad_norm": pytest.approx(3.0), "train/grad_norm_max": pytest.approx(5.0),
    }  # fmt: skip


@pytest.mark.slow
def test_metrics_csv_has_them_whatever_loggers_there_are(tiny_config, tmp_path):
    """Beside a logger of the user's; the learning rates are those of the schedule."""
    run, more = tmp_path / "run", ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}"]
    main(
        ["fit", f"--config={tiny_config}", f"--run_dir={run}", "--trainer.limit_train_batches=2", *more,
         "--trainer.limit_val_batches=1", "--model.freeze_epochs=1", "--test_after_fit=false"]
    )  # fmt: skip
    table = pd.read_csv(run / "metrics.csv")
    assert set(table) >= COLUMNS
    assert table["lr/trunk"].tolist() == [0.0, pytest.approx(table["lr/heads"][1])]
    assert table["lr/heads"][0] > table["lr/heads"][1] > 0
    assert (table["train/grad_norm"] > 0).all()
    assert (table["speed/images_per_second"] > 0).all()
    theirs = pd.read_csv(next(tmp_path.glob("lightning_logs/*/metrics.csv")))
    assert COLUMNS | {"val/age_mae"} <= set(theirs)
