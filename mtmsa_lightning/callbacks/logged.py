"""The figures that a stage has logged, ready for a record."""

import math

from lightning.pytorch import Trainer


def logged_figures(trainer: Trainer, stage: str) -> dict[str, float]:
    """Return the logged figures of a stage (``val`` or ``test``) by name; undefined ones are left out.

    A figure is NaN where too few faces stand behind it, and neither NaN nor infinity is JSON.
    """
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {
        name: value
        for name, value in figures.items()
        if name.startswith(f"{stage}/") and math.isfinite(value)
    }
