"""Check the metrics that callbacks and schedules monitor, before the first epoch."""

from difflib import get_close_matches
from typing import Any

from lightning.pytorch import Trainer

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.training.callbacks.training_monitor import TrainingMonitor

OURS = ("lightning", "mtmsa_lightning")
"""Packages whose callbacks log only metrics that are known here."""

OF_EXACT_AGES, OF_AGE_GROUPS = "val/age_mae", "val/age_interval_nll"
"""The default monitor, and the one for validation faces with age groups alone."""


def check_monitors(trainer: Trainer, model: MTMSA) -> None:
    """Check the monitors of callbacks and schedules, which Lightning checks after the first epoch.

    Nothing is checked with callbacks of other packages, which may log any metric.
    """
    if may_log_others(trainer):
        return
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    metrics = validation_metrics(model)
    training = [f"train/{name}" for name in (*model.metrics.logged("train"), "seconds")]
    weights = [f"train/{task}_weight" for task in model.tasks]
    logged = {*metrics, *training, *weights, *TrainingMonitor.METRICS, "loss"}
    watched = [(type(callback).__name__, getattr(callback, "monitor", None)) for callback in callbacks]
    watched += [("model.scheduler", each.monitor) for each in trainer.lr_scheduler_configs]
    for name, monitor in watched:
        if monitor is not None and monitor not in logged:
            raise ConfigError(unknown_metric(f"{name}: monitor", monitor, metrics))


def may_log_others(trainer: Trainer) -> bool:
    """Return whether there are callbacks of other packages."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return any(type(callback).__module__.partition(".")[0] not in OURS for callback in callbacks)


def validation_metrics(model: MTMSA) -> list[str]:
    """Return the names of the metrics that the validation part has labels for."""
    of_sources = (name for name, _ in model.source_metrics.logged("val"))
    return [f"val/{name}" for name in (*model.metrics.logged("val"), *of_sources)]


def unknown_metric(what: str, monitor: str, metrics: list[str]) -> str:
    """Return the message for a metric that will not be logged."""
    near = get_close_matches(monitor, metrics, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    if monitor == OF_EXACT_AGES and OF_AGE_GROUPS in metrics:
        hint = f"its labels are age groups: --checkpoint.monitor {OF_AGE_GROUPS}; "
    known = f"{hint}there are {', '.join(metrics)}"
    return f"{what} {monitor}: not among the metrics of these labels and heads; {known}"
