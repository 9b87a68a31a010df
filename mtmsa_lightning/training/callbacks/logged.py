"""The figures that a stage has logged, ready for a record."""

from lightning.pytorch import Trainer


def logged_figures(trainer: Trainer, stage: str) -> dict[str, float]:
    """Return the logged figures of a stage (``val`` or ``test``) by name.

    A figure is NaN where too few faces stand behind it, and infinite where the network excludes a label.
    """
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")
    }
